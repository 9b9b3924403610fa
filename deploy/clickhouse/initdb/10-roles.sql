-- Who may do what in the database tidebook, as statements that may run again: the server's image runs this file at
-- every start (compose.yaml), and what is here then holds. Users, with their passwords, come in 20-users.sh.
--
--   analyst  reads tables and views, within limits that he may lower and not raise
--   sink     the history role: creates, inserts, deletes what was cut off, keeps the views; drops no table
--   admin    everything in the database, users and running queries
--
-- No row policy: there is nothing in the tables that one analyst may read and another may not (personal data are not in
-- ClickHouse). A limit of 0 would be none at all, so each has a least value beside the greatest.

CREATE DATABASE IF NOT EXISTS tidebook;

CREATE ROLE IF NOT EXISTS analyst;
CREATE ROLE IF NOT EXISTS sink;
CREATE ROLE IF NOT EXISTS admin;

CREATE SETTINGS PROFILE IF NOT EXISTS analyst;
ALTER SETTINGS PROFILE analyst SETTINGS
  readonly = 2,
  final = 1,
  max_execution_time = 120 MIN 1 MAX 120,
  max_memory_usage = 4000000000 MIN 1 MAX 4000000000,
  max_memory_usage_for_user = 8000000000 MIN 1 MAX 8000000000,
  max_rows_to_read = 10000000000 MIN 1 MAX 10000000000,
  max_bytes_to_read = 2000000000000 MIN 1 MAX 2000000000000,
  max_result_rows = 100000000 MIN 1 MAX 100000000,
  max_result_bytes = 10000000000 MIN 1 MAX 10000000000,
  max_concurrent_queries_for_user = 16 MIN 1 MAX 16,
  max_bytes_before_external_group_by = 2000000000,
  max_bytes_before_external_sort = 2000000000,
  read_overflow_mode = 'throw' CONST,
  result_overflow_mode = 'throw' CONST,
  timeout_overflow_mode = 'throw' CONST,
  allow_ddl = 0 CONST,
  allow_introspection_functions = 0 CONST;

CREATE SETTINGS PROFILE IF NOT EXISTS sink;
ALTER SETTINGS PROFILE sink SETTINGS
  max_memory_usage = 8000000000 MIN 1 MAX 16000000000,
  max_concurrent_queries_for_user = 64 MIN 1 MAX 64;

CREATE QUOTA IF NOT EXISTS analyst KEYED BY user_name;
ALTER QUOTA analyst FOR INTERVAL 1 minute MAX queries = 600, FOR INTERVAL 1 hour MAX execution_time = 7200,
  read_rows = 200000000000, result_rows = 1000000000;

ALTER ROLE analyst SETTINGS PROFILE 'analyst';
ALTER ROLE sink SETTINGS PROFILE 'sink';
ALTER QUOTA analyst TO analyst;

-- A view reads with the rights of who asks, so analysts may read what views are made of: not the sink's journal of
-- begun batches, nor its list of what was applied.
GRANT SHOW, SELECT, dictGet ON tidebook.* TO analyst;
REVOKE SELECT ON tidebook.sink_intents FROM analyst;
REVOKE SELECT ON tidebook.sink_applied FROM analyst;

GRANT SHOW, SELECT, INSERT, dictGet ON tidebook.* TO sink;
GRANT CREATE TABLE, CREATE VIEW, DROP VIEW, CREATE DICTIONARY, DROP DICTIONARY ON tidebook.* TO sink;
GRANT ALTER ADD COLUMN, ALTER MODIFY COLUMN, ALTER COMMENT COLUMN, ALTER MODIFY COMMENT, ALTER ORDER BY,
  ALTER SETTINGS, ALTER INDEX, ALTER PROJECTION, ALTER DELETE ON tidebook.* TO sink;
GRANT CREATE TEMPORARY TABLE ON *.* TO sink;
GRANT SELECT ON system.processes TO sink; -- its own queries: those of a writer that lost its place it ends

GRANT ALL ON tidebook.* TO admin;
GRANT ACCESS MANAGEMENT, KILL QUERY, SHOW, SYSTEM FLUSH LOGS, SYSTEM RELOAD DICTIONARY ON *.* TO admin;
GRANT SELECT ON system.* TO admin;
