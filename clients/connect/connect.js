// Connects once, as a page of the documentation says, and prints `connected`.
//
// Arguments: connection string, then settings as `name=value` with a number.
'use strict'

const { Client } = require('pg')

const [connectionString, ...settings] = process.argv.slice(2)
const numbers = settings.map((setting) => setting.split('=')).map(([name, value]) => [name, Number(value)])

async function main() {
  const client = new Client({ connectionString, ...Object.fromEntries(numbers) })
  await client.connect()
  console.log('connected')
  await client.end()
}

main()
