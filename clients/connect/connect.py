"""Connects once, as a page of the documentation says, and prints `connected`.

Arguments: psycopg or asyncpg, connection string, then settings as `name=value` with a number.
"""

import asyncio
import sys

name, url, settings = sys.argv[1], sys.argv[2], dict(setting.split("=") for setting in sys.argv[3:])

if name == "psycopg":
    import psycopg

    psycopg.connect(url).close()
else:
    import asyncpg

    asyncio.run(asyncpg.connect(url, **{key: float(value) for key, value in settings.items()}))
print("connected")
