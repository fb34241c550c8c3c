// The page in Chromium, before, during and after a failover. Prints what it has seen, one `ok` a line.
//
// Arguments: address of the page, directory for the pictures. It prints `loaded` when the failover may begin.
'use strict'

const fs = require('node:fs')
const path = require('node:path')
const { chromium } = require('playwright-core')
const { contrasts, overflowing } = require('./readable.js')

const [url, pictures] = process.argv.slice(2)
// A leader key outlives a killed leader by 20 s in the lab; the rest is for a busy machine.
const FAILOVER_MS = 90_000
const PROMPT_MS = 20_000
// The empty directory for the profile is playwright's own.
const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync']
const PHONE = { width: 360, height: 740 }
const DESK = { width: 1280, height: 800 }
const WALL = { width: 2560, height: 1440 }
const STEPS = ['the leader key was deleted', 'took the leader key', 'left recovery', 'the first client was served']

function check(condition, why) {
  if (!condition) throw new Error(why)
}

function ok(what) {
  console.log(`ok ${what}`)
}

// Opens a page on which nothing may go wrong: no error in the console, no request elsewhere.
async function open(browser, options) {
  const context = await browser.newContext({ viewport: DESK, ...options })
  const page = await context.newPage()
  const wrong = []
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) wrong.push(`console: ${message.text()}`)
  })
  page.on('pageerror', (error) => wrong.push(`script: ${error.message}`))
  const origin = new URL(url).origin
  page.on('request', (request) => {
    if (new URL(request.url()).origin !== origin) wrong.push(`request to ${request.url()}`)
  })
  page.on('response', (response) => {
    if (!response.ok()) wrong.push(`${response.status()} for ${response.url()}`)
  })
  await page.goto(url)
  return { page, wrong }
}

// Every text has the contrast that WCAG 2 AA asks for, in light and in dark, and nothing is cut off at any width.
async function readable(page, state) {
  for (const colorScheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme })
    const { texts, poor } = await page.evaluate(contrasts)
    check(texts > 30, `only ${texts} texts were looked at`)
    check(poor.length === 0, `${state}, ${colorScheme}: too little contrast: ${JSON.stringify(poor)}`)
  }
  for (const viewport of [PHONE, WALL, DESK]) {
    await page.setViewportSize(viewport)
    const outside = await page.evaluate(overflowing)
    check(outside.length === 0, `${state}: wider than ${viewport.width} pixels: ${JSON.stringify(outside)}`)
  }
  ok(`${state}: readable in light and dark, on a telephone and on a wall`)
}

async function picture(page, name, viewport = DESK, colorScheme = 'light') {
  await page.emulateMedia({ colorScheme })
  await page.setViewportSize(viewport)
  await page.screenshot({ path: path.join(pictures, `${name}.png`), fullPage: true })
  await page.setViewportSize(DESK)
}

async function failover(browser) {
  const { page, wrong } = await open(browser)
  let loads = 0
  page.on('framenavigated', () => { loads += 1 })
  await page.waitForSelector('[data-connection=live]', { timeout: PROMPT_MS })
  const heading = () => page.locator('h1').innerText()
  const before = await heading()
  check(/^Writes go to \S+$/.test(before), before)
  check(await page.title() === `${before.split(' ').at(-1)} leads · ${await page.locator('.cluster b').innerText()}`, 'title')
  await readable(page, 'before')
  await picture(page, 'before')
  const lease = () => page.locator('.lease .left').getAttribute('width')
  const first = await lease()
  await page.waitForFunction((first) => document.querySelector('.lease .left').getAttribute('width') !== first, first,
    { timeout: PROMPT_MS })
  ok('before: it is live, and the lease runs down')

  console.log('loaded')
  await page.waitForFunction(() => document.querySelector('h1').innerText === 'Writes wait', null, { timeout: FAILOVER_MS })
  // The writers have lost their sessions, come again, and are held.
  await page.waitForFunction(() => Number(document.querySelector('.held b').innerText) > 0, null, { timeout: PROMPT_MS })
  await readable(page, 'during')
  await picture(page, 'during')
  check(await heading() === 'Writes wait', 'the failover was over before the picture was taken')
  check(/^because \S/.test(await page.locator('#verdict .why').innerText()), 'no reason')
  ok(`during: ${await page.locator('#verdict .why').innerText()}`)

  await page.waitForFunction((before) => {
    const now = document.querySelector('h1').innerText
    return now.startsWith('Writes go to ') && now !== before
  }, before, { timeout: FAILOVER_MS })
  for (const step of STEPS) {
    await page.locator('#changes details').first().getByText(step).waitFor({ timeout: PROMPT_MS })
  }
  const marks = await page.locator('#changes details').first().locator('li circle').count()
  check(marks === await page.locator('#changes details').first().locator('li').count(), 'a step without a mark')
  await page.waitForFunction(() => document.querySelector('.held b').innerText === '0', null, { timeout: PROMPT_MS })
  await readable(page, 'after')
  await picture(page, 'after')
  await picture(page, 'after-dark', DESK, 'dark')
  await picture(page, 'after-phone', PHONE)
  await picture(page, 'after-wall', WALL, 'dark')
  ok(`after: ${await heading()}, with every step`)

  await staysAsLeft(page)
  check(loads === 0, 'the page was loaded again')
  check(wrong.length === 0, wrong.join('\n'))
  ok('no error in the console, no request elsewhere, and all of it without loading the page again')
}

// What a person has closed stays closed, and what a person has selected is not replaced.
async function staysAsLeft(page) {
  const details = page.locator('#changes details').first()
  await details.locator('summary').click()
  await page.evaluate(() => getSelection().selectAllChildren(document.querySelector('h1')))
  await page.waitForSelector('[data-connection=stopped]', { timeout: PROMPT_MS })
  await page.evaluate(() => getSelection().removeAllRanges())
  await page.waitForSelector('[data-connection=live]', { timeout: PROMPT_MS })
  check(await details.getAttribute('open') === null, 'it was opened again')
  ok('what is closed stays closed, what is selected stays selected')
}

async function withoutScript(browser) {
  const { page, wrong } = await open(browser, { javaScriptEnabled: false })
  check((await page.locator('h1').innerText()).startsWith('Writes go to '), 'the verdict')
  // The browser reads it again by itself.
  await page.waitForEvent('framenavigated', { timeout: PROMPT_MS })
  await page.locator('h1').waitFor({ timeout: PROMPT_MS })
  check(wrong.length === 0, wrong.join('\n'))
  ok('without JavaScript it shows the same, and is read again')
}

async function main() {
  fs.mkdirSync(pictures, { recursive: true })
  const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: FLAGS })
  try {
    await failover(browser)
    await withoutScript(browser)
  } finally {
    await browser.close()
  }
}

main().catch((error) => {
  console.log(`FAILED ${error.stack}`)
  process.exitCode = 1
})
