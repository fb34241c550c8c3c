// Keeps the page up to date. Without it the browser reads the page again every few seconds.
'use strict'

// The proxy sends an update every second. After so many milliseconds without one the page says that it is not live.
const SILENCE_MS = 5_000
// How long to wait before asking for updates again when the proxy has refused.
const RETRY_MS = 3_000

const connection = document.getElementById('connection')
// What each section was when it was last received, by its id.
const received = new Map()
// Whether a person has opened or closed a change of leader, by its id.
const opened = new Map()
// What has arrived and is not shown yet, by the container that it belongs to.
let pending = {}
// When the last update arrived, or the page itself.
let newest = Date.now()

// Puts the sections of rendered HTML into the page, as far as they have changed. The proxy has escaped every value, and the
// policy of the page runs no script but this file.
function show(container, html) {
  const parts = [...new DOMParser().parseFromString(html, 'text/html').body.children]
  for (const part of parts.filter((part) => received.get(part.id) !== part.outerHTML)) {
    received.set(part.id, part.outerHTML)
    for (const details of part.querySelectorAll('details')) {
      if (opened.has(details.id)) details.open = opened.get(details.id)
    }
    const shown = document.getElementById(part.id)
    if (shown) shown.replaceWith(part)
    else container.append(part)
    if (part.dataset.title) document.title = part.dataset.title
  }
}

function tell(state, text) {
  if (connection.textContent !== text) connection.textContent = text
  document.body.dataset.connection = state
}

function update(event) {
  newest = Date.now()
  pending = { ...pending, ...JSON.parse(event.data) }
  // Else the text that a person is about to copy would be replaced.
  if (!getSelection().isCollapsed) return tell('stopped', 'stopped while text is selected')
  for (const [id, html] of Object.entries(pending)) show(document.getElementById(id), html)
  pending = {}
  tell('live', 'live')
}

function listen() {
  const source = new EventSource('events')
  source.onmessage = update
  source.onerror = () => {
    // From every other state the browser connects again by itself.
    if (source.readyState === EventSource.CLOSED) setTimeout(listen, RETRY_MS)
  }
}

document.addEventListener('click', (event) => {
  const details = event.target.closest('summary')?.parentElement
  if (details) opened.set(details.id, !details.open)
})
setInterval(() => {
  if (Date.now() - newest < SILENCE_MS) return
  tell('lost', `not live: this is the state of ${new Date(newest).toLocaleTimeString()}`)
}, 1_000)
listen()
