"""asyncpg against one server: prints `ok` or `FAILED` for each behaviour.

Arguments: connection string, file of the CA, file of another CA, bytes of the large result.
Not supported by asyncpg: pipeline mode, channel binding and protocol 3.2.
"""

import asyncio
import io
import ssl
import sys
import time

import asyncpg

from report import Prompt, Report, check, large_parameter, peak_memory

URL, CA, OTHER_CA, LARGE = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
VERIFIED = ssl.create_default_context(cafile=CA)
COPIED = 100_000
ROW = 1 << 20
# For one behaviour.
BOUND = 90


async def connect(**parameters):
    return await asyncpg.connect(URL, **{"ssl": "disable", "timeout": 10, **parameters})


async def encrypted(connection):
    return await connection.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")


async def with_tls(context, wanted, **parameters):
    connection = await connect(ssl=context, **parameters)
    check(await encrypted(connection) == wanted, f"the server does not say that TLS is {wanted}")
    await connection.close()


async def tls_disable():
    await with_tls("disable", False)


async def tls_require():
    await with_tls("require", True)


async def tls_verify_full():
    await with_tls(VERIFIED, True)


async def tls_wrong_ca_refused():
    try:
        await with_tls(ssl.create_default_context(cafile=OTHER_CA), True)
    except ssl.SSLCertVerificationError:
        return
    raise AssertionError("connected, though the CA signed nothing")


async def direct_tls():
    context = ssl.create_default_context(cafile=CA)
    context.set_alpn_protocols(["postgresql"])
    await with_tls(context, True, direct_tls=True)


async def scram_wrong_password_refused():
    try:
        await connect(password="wrong")
    except asyncpg.InvalidPasswordError:
        return
    raise AssertionError("connected with a wrong password")


async def prepared():
    connection = await connect()
    statement = await connection.prepare("SELECT $1::int * 2, $2::text || '!'")
    for number in range(100):
        row = await statement.fetchrow(number, f"n{number}")
        check(tuple(row) == (number * 2, f"n{number}!"), f"got {row}")
    await connection.close()
    return "100 executions"


async def large_parameter_there_and_back():
    value = large_parameter()
    connection = await connect()
    check(await connection.fetchval("SELECT $1::bytea", value) == value, "the value came back changed")
    await connection.close()
    return f"{len(value)} bytes there and back"


async def copy_in():
    connection = await connect()
    await connection.execute("CREATE TEMP TABLE copied (id int, words text)")
    records = ((number, f"line {number}") for number in range(COPIED))
    await connection.copy_records_to_table("copied", records=records)
    row = await connection.fetchrow("SELECT count(*), sum(id)::bigint FROM copied")
    check(tuple(row) == (COPIED, COPIED * (COPIED - 1) // 2), f"got {row}")
    await connection.close()
    return f"{COPIED} rows"


async def copy_out():
    connection = await connect()
    output = io.BytesIO()
    query = f"SELECT i, 'line ' || i FROM generate_series(0, {COPIED - 1}) i"
    await connection.copy_from_query(query, output=output)
    wanted = "".join(f"{i}\tline {i}\n" for i in range(COPIED)).encode()
    check(output.getvalue() == wanted, "the rows were changed")
    await connection.close()
    return f"{COPIED} rows"


async def listen_notify():
    long = "x" * 7999
    got = asyncio.Queue()
    listener, other = await connect(), await connect()
    await listener.add_listener("news", lambda *note: got.put_nowait(note[3]))
    await other.execute("SELECT pg_notify('news', 'first'), pg_notify('news', $1)", long)
    # The listening session sends no query, so the server must push both.
    payloads = [await asyncio.wait_for(got.get(), 5) for _ in range(2)]
    check(payloads == ["first", long], "other payloads")
    await listener.close()
    await other.close()
    return "2 payloads, one of them the longest possible"


async def cancelled(connection):
    """asyncpg sends a CancelRequest when the waiting task is cancelled."""
    process = connection.get_server_pid()
    sleep = asyncio.create_task(connection.execute("SELECT pg_sleep(60)"))
    watcher = await connect()
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'PgSleep'"
    while await watcher.fetchval(waiting, process) == 0:
        await asyncio.sleep(0.02)
    prompt = Prompt()
    sleep.cancel()
    try:
        await sleep
    except asyncio.CancelledError:
        pass
    else:
        raise AssertionError("the task was not cancelled")
    # The task ends before the server answers. The session is free when the server has cancelled the query.
    while await watcher.fetchval(waiting, process) > 0:
        prompt.ms()
        await asyncio.sleep(0.02)
    took = prompt.ms()
    check(await connection.fetchval("SELECT pg_backend_pid()") == process, "another backend answers")
    await watcher.close()
    await connection.close()
    return f"after {took} ms"


async def cancel():
    return await cancelled(await connect())


async def cancel_tls():
    return await cancelled(await connect(ssl=VERIFIED))


async def large_result():
    started = time.monotonic()
    count = LARGE // ROW
    connection = await connect()
    query = f"SELECT i, repeat(md5(i::text), {ROW // 32}) FROM generate_series(1, $1::int) i"
    wanted = 0
    async with connection.transaction():
        async for index, text in connection.cursor(query, count, prefetch=4):
            wanted += 1
            check(index == wanted and len(text) == ROW and text == text[:32] * (ROW // 32), f"row {wanted} changed")
    check(wanted == count, f"{wanted} rows of {count}")
    await connection.close()
    took = round((time.monotonic() - started) * 1000)
    return f"{LARGE} bytes in {took} ms, peak memory {peak_memory()} KiB"


async def error_keeps_session():
    connection = await connect()
    before = connection.get_server_pid()
    try:
        await connection.execute("SELECT * FROM nowhere")
    except asyncpg.UndefinedTableError:
        pass
    else:
        raise AssertionError("no error")
    check(await connection.fetchval("SELECT pg_backend_pid()") == before, "another backend answers")
    await connection.close()


async def clean_close():
    connection = await connect()
    process = connection.get_server_pid()
    await connection.close()
    prompt = Prompt()
    other = await connect()
    while await other.fetchval("SELECT count(*) FROM pg_stat_activity WHERE pid = $1", process) > 0:
        prompt.ms()
        await asyncio.sleep(0.02)
    await other.close()


BEHAVIOURS = {
    "tls_disable": tls_disable,
    "tls_require": tls_require,
    "tls_verify_full": tls_verify_full,
    "tls_wrong_ca_refused": tls_wrong_ca_refused,
    "direct_tls": direct_tls,
    "scram_wrong_password_refused": scram_wrong_password_refused,
    "prepared": prepared,
    "large_parameter": large_parameter_there_and_back,
    "copy_in": copy_in,
    "copy_out": copy_out,
    "listen_notify": listen_notify,
    "cancel": cancel,
    "cancel_tls": cancel_tls,
    "large_result": large_result,
    "error_keeps_session": error_keeps_session,
    "clean_close": clean_close,
}


async def main():
    report = Report()
    for name, behaviour in BEHAVIOURS.items():
        try:
            report.ok(name, await asyncio.wait_for(behaviour(), BOUND))
        except Exception as error:  # every behaviour prints a line, whatever failed
            report.fail(name, error)
    report.exit()


asyncio.run(main())
