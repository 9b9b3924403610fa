#!/bin/sh
# The users of the roles in 10-roles.sql, with passwords from the environment; only their hashes are sent and kept.
# The image runs this at every start: a changed password holds after the next one. `clickhouseclient` is the image's
# own call of the client as the user that CLICKHOUSE_USER names, the only one that may make users.
set -eu

user() { # name, role, password
    hash=$(printf %s "$3" | sha256sum | cut -d ' ' -f 1)
    clickhouse-client --host 127.0.0.1 --user "$CLICKHOUSE_USER" --password "$CLICKHOUSE_PASSWORD" --multiquery <<SQL
CREATE USER IF NOT EXISTS $1;
ALTER USER $1 IDENTIFIED WITH sha256_hash BY '$hash';
ALTER USER $1 DEFAULT DATABASE tidebook;
GRANT $2 TO $1;
ALTER USER $1 DEFAULT ROLE $2;
SQL
}

user tidebook sink "$SINK_PASSWORD"
user analyst analyst "$ANALYST_PASSWORD"
user operator admin "$ADMIN_PASSWORD"
