// node-postgres against one server: prints `ok` or `FAILED` for each behaviour.
//
// Arguments: connection string, file of the CA, file of another CA, bytes of the large result.
// Not supported by node-postgres: protocol 3.2, and CancelRequest over TLS (it sends it in clear text).
'use strict'

const fs = require('node:fs')
const { once } = require('node:events')
const { pipeline: streams } = require('node:stream/promises')
const { Readable } = require('node:stream')
const { setTimeout: sleep } = require('node:timers/promises')
const { Client, Query } = require('pg')
const { from: copyFrom, to: copyTo } = require('pg-copy-streams')
const QueryStream = require('pg-query-stream')

const [url, ca, otherCa, largeText] = process.argv.slice(2)
const large = Number(largeText)
const verified = { ssl: { ca: fs.readFileSync(ca) } }
const COPIED = 100_000
const PIPELINED = 500
const ROW = 1 << 20
// For what happens at once, on a machine busy with other tests.
const PROMPT_MS = 5_000
// For one behaviour.
const BOUND_MS = 90_000
// A client that streams keeps a few rows and one large parameter in memory, not the result.
const PEAK_KIB = 400 * 1024

function check(condition, why) {
  if (!condition) throw new Error(why)
}

// A client that is not connected yet.
function unconnected(settings = {}) {
  const client = new Client({ connectionString: url, ssl: false, connectionTimeoutMillis: 10_000, ...settings })
  // Without a listener an error between two queries would end this program.
  client.on('error', () => {})
  return client
}

async function connect(settings) {
  const client = unconnected(settings)
  await client.connect()
  return client
}

async function withSession(settings, use) {
  const client = await connect(settings)
  try {
    return await use(client)
  } finally {
    await client.end()
  }
}

async function one(client, text, values) {
  const { rows } = await client.query({ text, values, rowMode: 'array' })
  return rows[0][0]
}

function encrypted(settings, wanted) {
  return withSession(settings, async (client) => {
    const ssl = await one(client, 'SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()')
    check(ssl === wanted, `the server says that TLS is ${ssl}`)
  })
}

async function fails(promise, code) {
  const error = await promise.then(
    () => undefined,
    (error) => error,
  )
  check(error !== undefined, `no error ${code}`)
  check(error.code === code, `another error: ${error.code} ${error.message}`)
}

// Repeats a query over a session of its own until the count is as wanted.
function until(text, values, wanted) {
  return withSession({}, async (client) => {
    const started = performance.now()
    while (Number(await one(client, text, values)) !== wanted) {
      check(performance.now() - started < PROMPT_MS, `not within ${PROMPT_MS} ms: ${text}`)
      await sleep(20)
    }
  })
}

const behaviours = {
  tls_disable: () => encrypted({ ssl: false }, false),

  tls_require: () => encrypted({ ssl: { rejectUnauthorized: false } }, true),

  tls_verify_full: () => encrypted(verified, true),

  tls_wrong_ca_refused: () =>
    fails(connect({ ssl: { ca: fs.readFileSync(otherCa) } }), 'UNABLE_TO_VERIFY_LEAF_SIGNATURE'),

  channel_binding: () => encrypted({ ...verified, enableChannelBinding: true }, true),

  direct_tls: () => encrypted({ ...verified, sslnegotiation: 'direct' }, true),

  scram_wrong_password_refused: () => {
    const wrong = new URL(url)
    wrong.password = 'wrong'
    return fails(connect({ connectionString: wrong.href }), '28P01')
  },

  prepared: () =>
    withSession({}, async (client) => {
      const query = { name: 'double', text: "SELECT $1::int * 2, $2::text || '!'", rowMode: 'array' }
      for (let number = 0; number < 100; number++) {
        const { rows } = await client.query({ ...query, values: [number, `n${number}`] })
        check(rows[0][0] === number * 2 && rows[0][1] === `n${number}!`, `got ${rows[0]}`)
      }
      return '100 executions'
    }),

  large_parameter: () =>
    withSession({}, async (client) => {
      const value = Buffer.alloc(16 << 20, Buffer.from(Array.from({ length: 65_521 }, (_, i) => (i * 31) % 251)))
      check(value.equals(await one(client, 'SELECT $1::bytea', [value])), 'the value came back changed')
      return `${value.length} bytes there and back`
    }),

  copy_in: () =>
    withSession({}, async (client) => {
      await client.query('CREATE TEMP TABLE copied (id int, words text)')
      const lines = Readable.from(
        (function* () {
          for (let id = 0; id < COPIED; id++) yield `${id}\tline ${id}\n`
        })(),
      )
      await streams(lines, client.query(copyFrom('COPY copied FROM STDIN')))
      const { rows } = await client.query('SELECT count(*)::int AS count, sum(id)::float8 AS sum FROM copied')
      check(rows[0].count === COPIED && rows[0].sum === (COPIED * (COPIED - 1)) / 2, JSON.stringify(rows[0]))
      return `${COPIED} rows`
    }),

  copy_out: () =>
    withSession({}, async (client) => {
      const sql = `COPY (SELECT i, 'line ' || i FROM generate_series(0, ${COPIED - 1}) i) TO STDOUT`
      const chunks = []
      for await (const chunk of client.query(copyTo(sql))) chunks.push(chunk)
      const wanted = Array.from({ length: COPIED }, (_, i) => `${i}\tline ${i}\n`).join('')
      check(Buffer.concat(chunks).toString() === wanted, 'the rows came changed')
      return `${COPIED} rows`
    }),

  listen_notify: () =>
    withSession({}, (listener) =>
      withSession({}, async (other) => {
        const got = []
        const both = new Promise((resolve) => {
          listener.on('notification', ({ payload }) => got.push(payload) === 2 && resolve())
        })
        await listener.query('LISTEN news')
        const long = 'x'.repeat(7999)
        await other.query("SELECT pg_notify('news', 'first'), pg_notify('news', $1)", [long])
        // The listening session sends no query, so the server must push both.
        await Promise.race([both, sleep(PROMPT_MS, undefined, { ref: false })])
        check(got.length === 2 && got[0] === 'first' && got[1] === long, `got ${got.length} notifications`)
        return '2 payloads, one of them the longest possible'
      }),
    ),

  cancel: () =>
    withSession({}, async (client) => {
      const process = await one(client, 'SELECT pg_backend_pid()')
      const query = new Query('SELECT pg_sleep(60)')
      const failed = once(query, 'error').then(([error]) => error)
      client.query(query)
      await until("SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'PgSleep'", [process], 1)
      const started = performance.now()
      unconnected().cancel(client, query)
      const error = await failed
      const took = Math.round(performance.now() - started)
      check(error.code === '57014', `another error: ${error.code} ${error.message}`)
      check(took < PROMPT_MS, `only after ${took} ms`)
      check((await one(client, 'SELECT pg_backend_pid()')) === process, 'another backend answers')
      return `after ${took} ms`
    }),

  pipeline: () =>
    withSession({ pipeline: true }, async (client) => {
      const asked = Array.from({ length: PIPELINED }, (_, number) => one(client, 'SELECT $1::int', [number]))
      const failing = fails(client.query('SELECT 1/0'), '22012')
      const got = await Promise.all(asked)
      check(
        got.every((value, number) => value === number),
        'answers in another order',
      )
      await failing
      check((await one(client, 'SELECT 3')) === 3, 'the session did not survive the error')
      return `${PIPELINED} queries at once, and one that fails`
    }),

  large_result: () =>
    withSession({}, async (client) => {
      const started = performance.now()
      const text = `SELECT i, repeat(md5(i::text), ${ROW / 32}) FROM generate_series(1, $1::int) i`
      const rows = client.query(new QueryStream(text, [large / ROW], { rowMode: 'array', batchSize: 4 }))
      let wanted = 0
      for await (const [index, value] of rows) {
        wanted++
        const whole = value.length === ROW && value === value.slice(0, 32).repeat(ROW / 32)
        check(index === wanted && whole, `row ${wanted} was changed`)
      }
      check(wanted === large / ROW, `${wanted} rows of ${large / ROW}`)
      // Not resourceUsage, which includes the memory of the parent at the fork.
      const peak = Number(/^VmHWM:\s+(\d+)/m.exec(fs.readFileSync('/proc/self/status', 'utf8'))[1])
      check(peak < PEAK_KIB, `this client needed ${peak} KiB`)
      return `${large} bytes in ${Math.round(performance.now() - started)} ms, peak memory ${peak} KiB`
    }),

  error_keeps_session: () =>
    withSession({}, async (client) => {
      const before = await one(client, 'SELECT pg_backend_pid()')
      await fails(client.query('SELECT * FROM nowhere'), '42P01')
      check((await one(client, 'SELECT pg_backend_pid()')) === before, 'another backend answers')
    }),

  clean_close: async () => {
    const process = await withSession({}, (client) => one(client, 'SELECT pg_backend_pid()'))
    await until('SELECT count(*) FROM pg_stat_activity WHERE pid = $1', [process], 0)
  },
}

async function main() {
  for (const [name, behaviour] of Object.entries(behaviours)) {
    const late = sleep(BOUND_MS, undefined, { ref: false }).then(() => {
      throw new Error(`not within ${BOUND_MS} ms`)
    })
    try {
      const detail = await Promise.race([behaviour(), late])
      console.log(`ok ${name} ${detail ?? ''}`.trimEnd())
    } catch (error) {
      process.exitCode = 1
      console.log(`FAILED ${name}: ${String(error.stack ?? error).replace(/\s+/g, ' ')}`)
    }
  }
}

main()
