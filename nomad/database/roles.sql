-- The roles and databases of the layout. Safe to repeat; run by bootstrap.sh, or by hand as the superuser:
--
--   export BOOT_VIETMARKET_PASSWORD=… BOOT_MONITOR_PASSWORD=… BOOT_GVFX_PASSWORD=… BOOT_TIMESCALEDB=1
--   psql -h LEADER -p 5432 -U postgres -d postgres -v ON_ERROR_STOP=1 -f roles.sql
--
-- The passwords come from the environment (psql 14 or newer), and are set again each time.
\set vietmarket_password ''
\set monitor_password ''
\set gvfx_password ''
\set timescaledb ''
\getenv vietmarket_password BOOT_VIETMARKET_PASSWORD
\getenv monitor_password BOOT_MONITOR_PASSWORD
\getenv gvfx_password BOOT_GVFX_PASSWORD
\getenv timescaledb BOOT_TIMESCALEDB

SELECT :'vietmarket_password' = '' OR :'monitor_password' = '' OR :'gvfx_password' = '' AS incomplete \gset
\if :incomplete
  DO $$ BEGIN
    RAISE 'a password is missing: set BOOT_VIETMARKET_PASSWORD, BOOT_MONITOR_PASSWORD and BOOT_GVFX_PASSWORD in the environment';
  END $$;
\endif

-- Not even the statement's text may reach the server's log.
SET log_statement = 'none';
SET log_min_error_statement = 'panic';
SET log_min_duration_statement = -1;

SELECT format('CREATE ROLE %I LOGIN', name)
FROM (VALUES ('vietmarket'), ('monitor'), ('gvfx')) AS wanted (name)
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec
ALTER ROLE vietmarket WITH LOGIN NOSUPERUSER PASSWORD :'vietmarket_password';
-- The proxy's: no more than the right to connect, but to every database it is asked for.
ALTER ROLE monitor WITH LOGIN NOSUPERUSER PASSWORD :'monitor_password';
ALTER ROLE gvfx WITH LOGIN NOSUPERUSER PASSWORD :'gvfx_password';

SELECT format('CREATE DATABASE %I OWNER %I', name, name)
FROM (VALUES ('vietmarket'), ('gvfx')) AS wanted (name)
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = name) \gexec

\connect vietmarket
-- The extension needs the superuser; schema.sql, run by the owner, finds it there.
SELECT :'timescaledb' <> '' AS with_timescaledb \gset
\if :with_timescaledb
  CREATE EXTENSION IF NOT EXISTS timescaledb;
\endif
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO vietmarket;

\connect gvfx
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO gvfx;
