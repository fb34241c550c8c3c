// Functions that run inside the page: whether its texts can be read.
'use strict'

// The texts whose contrast is less than WCAG 2 AA asks for (success criterion 1.4.3), and how many texts there are.
function contrasts() {
  // "rgb(1, 2, 3)", "rgba(1, 2, 3, 0.5)" or "color(srgb 0.1 0.2 0.3 / 0.5)".
  const parse = (text) => {
    const numbers = text.match(/[\d.]+/g).map(Number)
    const scale = text.startsWith('color(') ? 255 : 1
    return { rgb: numbers.slice(0, 3).map((part) => part * scale), alpha: numbers[3] ?? 1 }
  }
  const over = (top, below) => top.rgb.map((part, index) => part * top.alpha + below[index] * (1 - top.alpha))
  const ground = (element) => {
    if (!element) return [255, 255, 255]
    const own = parse(getComputedStyle(element).backgroundColor)
    return own.alpha === 1 ? own.rgb : over(own, ground(element.parentElement))
  }
  const luminance = (rgb) => {
    const [red, green, blue] = rgb.map((part) => part / 255)
      .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
  }
  const ratio = (one, other) => {
    const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b)
    return (light + 0.05) / (dark + 0.05)
  }
  const poor = []
  let texts = 0
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement
    if (!node.data.trim() || element.closest('noscript') || !element.checkVisibility()) continue
    texts += 1
    const style = getComputedStyle(element)
    const below = ground(element)
    const found = ratio(over(parse(style.color), below), below)
    const size = parseFloat(style.fontSize)
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700)
    if (found < (large ? 3 : 4.5)) poor.push({ text: node.data.trim(), ratio: found.toFixed(2) })
  }
  return { texts, poor }
}

// The elements that reach beyond the right edge of the window.
function overflowing() {
  const right = document.documentElement.clientWidth
  const outside = [...document.body.querySelectorAll('*')]
    .filter((element) => !element.closest('svg *') && element.getBoundingClientRect().right > right + 1)
    .map((element) => `${element.tagName} ${element.id} ${element.className} ${element.textContent.slice(0, 40)}`)
  if (document.documentElement.scrollWidth > right) outside.push(`the page: ${document.documentElement.scrollWidth}`)
  return outside
}

module.exports = { contrasts, overflowing }
