"""psycopg 3 (on libpq 18) against one server: prints `ok` or `FAILED` for each behaviour.

Arguments: connection string, file of the CA, file of another CA, bytes of the large result.
Absent with older servers: direct TLS before PostgreSQL 17, protocol 3.2 before 18. A line `absent` says so.
"""

import select
import sys
import threading
import time

import psycopg
from psycopg import errors, pq

from report import Prompt, Report, check, large_parameter, peak_memory

URL, CA, OTHER_CA, LARGE = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
VERIFIED = {"sslmode": "verify-full", "sslrootcert": CA}
COPIED = 100_000
PIPELINED = 500
ROW = 1 << 20


def connect(**parameters):
    parameters = {"sslmode": "disable", "connect_timeout": 10, **parameters}
    return psycopg.connect(URL, autocommit=True, **parameters)


def one(connection, query, *values):
    return connection.execute(query, values).fetchone()[0]


def encrypted(connection):
    return one(connection, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")


def tls_disable():
    with connect() as connection:
        check(not encrypted(connection), "the server says this session uses TLS")


def tls_require():
    with connect(sslmode="require") as connection:
        check(encrypted(connection), "the server says this session uses no TLS")


def tls_verify_full():
    with connect(**VERIFIED) as connection:
        check(encrypted(connection), "the server says this session uses no TLS")


def tls_wrong_ca_refused():
    try:
        connect(sslmode="verify-full", sslrootcert=OTHER_CA).close()
    except psycopg.OperationalError as error:
        check("certificate verify failed" in str(error), f"refused for another reason: {error}")
    else:
        raise AssertionError("connected, though the CA signed nothing")


def channel_binding():
    with connect(channel_binding="require", **VERIFIED) as connection:
        check(encrypted(connection), "the server says this session uses no TLS")


def scram_wrong_password_refused():
    try:
        connect(password="wrong").close()
    except psycopg.OperationalError as error:
        check("password authentication failed" in str(error), f"another error: {error}")
    else:
        raise AssertionError("connected with a wrong password")


def prepared():
    with connect() as connection:
        for number in range(100):
            query = "SELECT %s::int * 2, %s::text || '!'"
            row = connection.execute(query, (number, f"n{number}"), prepare=True).fetchone()
            check(row == (number * 2, f"n{number}!"), f"got {row}")
        known = one(connection, "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%%|| ''!''%%'")
        check(known == 1, f"the server knows {known} such statements")
    return "100 executions"


def large_parameter_there_and_back():
    value = large_parameter()
    with connect() as connection:
        back = connection.execute("SELECT %b::bytea", (value,), binary=True).fetchone()[0]
    check(back == value, "the value came back changed")
    return f"{len(value)} bytes there and back"


def copy_in():
    with connect() as connection:
        connection.execute("CREATE TEMP TABLE copied (id int, words text)")
        with connection.cursor().copy("COPY copied FROM STDIN") as copy:
            for number in range(COPIED):
                copy.write_row((number, f"line {number}"))
        row = connection.execute("SELECT count(*), sum(id)::bigint FROM copied").fetchone()
    check(row == (COPIED, COPIED * (COPIED - 1) // 2), f"got {row}")
    return f"{COPIED} rows"


def copy_out():
    query = f"COPY (SELECT i, 'line ' || i FROM generate_series(0, {COPIED - 1}) i) TO STDOUT"
    with connect() as connection, connection.cursor().copy(query) as copy:
        got = b"".join(bytes(block) for block in copy)
    wanted = "".join(f"{i}\tline {i}\n" for i in range(COPIED)).encode()
    check(got == wanted, "the rows were changed")
    return f"{COPIED} rows"


def copy_in_binary():
    with connect() as connection:
        connection.execute("CREATE TEMP TABLE copied (id int4, words text)")
        with connection.cursor().copy("COPY copied FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(["int4", "text"])
            for number in range(1000):
                copy.write_row((number, "\\N\t\r\n"))
        row = connection.execute("SELECT count(*), sum(id)::bigint, min(words) FROM copied").fetchone()
    check(row == (1000, 499_500, "\\N\t\r\n"), f"got {row}")
    return "1000 rows"


def listen_notify():
    long = "x" * 7999
    with connect() as listener, connect() as other:
        listener.execute("LISTEN news")
        other.execute("SELECT pg_notify('news', 'first'), pg_notify('news', %s)", (long,))
        # The listening session sends no query, so the server must push both.
        got = [note.payload for note in listener.notifies(timeout=5, stop_after=2)]
    check(got == ["first", long], f"got {len(got)} notifications")
    return "2 payloads, one of them the longest possible"


def cancelled(connection):
    process = connection.info.backend_pid
    seen = {}

    def cancel():
        with connect() as watcher:
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND wait_event = 'PgSleep'"
            while one(watcher, waiting, process) == 0:
                time.sleep(0.02)
        seen["prompt"] = Prompt()
        connection.cancel_safe(timeout=10)

    canceller = threading.Thread(target=cancel, daemon=True)
    canceller.start()
    try:
        connection.execute("SELECT pg_sleep(60)")
    except errors.QueryCanceled as error:
        took = seen["prompt"].ms()
        check(error.sqlstate == "57014", f"SQLSTATE {error.sqlstate}")
    else:
        raise AssertionError("the query was not cancelled")
    canceller.join(10)
    check(one(connection, "SELECT pg_backend_pid()") == process, "another backend answers")
    return f"after {took} ms"


def cancel():
    with connect() as connection:
        return cancelled(connection)


def cancel_tls():
    with connect(**VERIFIED) as connection:
        return cancelled(connection)


def pipeline():
    with connect() as connection:
        with connection.pipeline():
            cursors = [connection.execute("SELECT %s::int", (number,)) for number in range(PIPELINED)]
            got = [cursor.fetchone()[0] for cursor in cursors]
        check(got == list(range(PIPELINED)), "answers in another order")
        # After an error the server skips everything up to the next Sync.
        connection.execute("CREATE TEMP TABLE skipped (id int)")
        try:
            with connection.pipeline() as mode:
                connection.execute("SELECT 1/0")
                connection.execute("INSERT INTO skipped VALUES (1)")
                mode.sync()
        except errors.DivisionByZero:
            pass
        else:
            raise AssertionError("no error")
        check(one(connection, "SELECT count(*) FROM skipped") == 0, "the statement after the error was run")
    return f"{PIPELINED} queries at once, and an aborted pipeline"


def large_result():
    started = time.monotonic()
    count = LARGE // ROW
    query = f"SELECT i, repeat(md5(i::text), {ROW // 32}) FROM generate_series(1, %s) i"
    wanted = 0
    with connect() as connection:
        for index, text in connection.cursor().stream(query, (count,)):
            wanted += 1
            check(index == wanted and len(text) == ROW and text == text[:32] * (ROW // 32), f"row {wanted} changed")
    check(wanted == count, f"{wanted} rows of {count}")
    took = round((time.monotonic() - started) * 1000)
    return f"{LARGE} bytes in {took} ms, peak memory {peak_memory()} KiB"


def error_keeps_session():
    with connect() as connection:
        before = one(connection, "SELECT pg_backend_pid()")
        try:
            connection.execute("SELECT * FROM nowhere")
        except errors.UndefinedTable:
            pass
        else:
            raise AssertionError("no error")
        check(one(connection, "SELECT pg_backend_pid()") == before, "another backend answers")


def clean_close():
    with connect() as connection:
        process = connection.info.backend_pid
    prompt = Prompt()
    with connect() as other:
        while one(other, "SELECT count(*) FROM pg_stat_activity WHERE pid = %s", process) > 0:
            prompt.ms()
            time.sleep(0.02)


def server_ends_session():
    """A backend terminated by an administrator: its error must arrive, and the end of the session."""
    with connect() as connection, connect() as other:
        check(one(other, "SELECT pg_terminate_backend(%s)", connection.info.backend_pid), "not terminated")
        select.select([connection.fileno()], [], [], 5)
        try:
            connection.execute("SELECT 1")
        except errors.AdminShutdown as error:
            check(error.sqlstate == "57P01", f"SQLSTATE {error.sqlstate}")
        else:
            raise AssertionError("the session goes on")


def protocol_3_2():
    parameters = {"min_protocol_version": "3.2", "max_protocol_version": "3.2"}
    with connect(**parameters) as connection:
        version = connection.pgconn.full_protocol_version
        check(version == 30002, f"protocol {version}")
        detail = cancelled(connection)
    with connect(**parameters, **VERIFIED) as connection:
        cancelled(connection)
    return f"cancelled with its long key {detail}"


def direct_tls():
    with connect(sslnegotiation="direct", **VERIFIED) as connection:
        check(encrypted(connection), "the server says this session uses no TLS")
        return f"cancelled {cancelled(connection)}"


BEHAVIOURS = {
    "tls_disable": tls_disable,
    "tls_require": tls_require,
    "tls_verify_full": tls_verify_full,
    "tls_wrong_ca_refused": tls_wrong_ca_refused,
    "channel_binding": channel_binding,
    "scram_wrong_password_refused": scram_wrong_password_refused,
    "prepared": prepared,
    "large_parameter": large_parameter_there_and_back,
    "copy_in": copy_in,
    "copy_out": copy_out,
    "copy_in_binary": copy_in_binary,
    "listen_notify": listen_notify,
    "cancel": cancel,
    "cancel_tls": cancel_tls,
    "pipeline": pipeline,
    "large_result": large_result,
    "error_keeps_session": error_keeps_session,
    "clean_close": clean_close,
    "server_ends_session": server_ends_session,
    "direct_tls": direct_tls,
    "protocol_3_2": protocol_3_2,
}
SINCE = {"direct_tls": 170000, "protocol_3_2": 180000}


def main():
    report = Report()
    check(pq.version() >= 180000, f"libpq {pq.version()} does not speak protocol 3.2")
    with connect() as connection:
        server = connection.info.server_version
    for name, behaviour in BEHAVIOURS.items():
        if server < SINCE.get(name, 0):
            report.absent(name, f"the server is {server}")
            continue
        try:
            report.ok(name, behaviour())
        except Exception as error:  # each line must be printed, whatever failed
            report.fail(name, error)
    report.exit()


main()
