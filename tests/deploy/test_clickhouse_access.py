"""deploy/clickhouse: every statement is ClickHouse's SQL, and each role can do its work and nothing more.

chDB parses all of it but keeps no users (CANNOT_RUN names what it can't run and why). Its configuration file can give
rights and settings to the one user that it has, though: so each role's GRANTs and settings profile are read from the
very file, and the role's work is done under them.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import pytest
import yaml

from schemas.loader import schemas
from sinks import ddl
from sinks.clickhouse_commits import COMMIT_TABLES
from sinks.ddl_shape import documented
from sinks.views import views

pytestmark = pytest.mark.xdist_group("access")  # one fixture for them all

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "clickhouse"
ROLES = FOLDER / "initdb" / "10-roles.sql"
ROLES_SQL = ROLES.read_text(encoding="utf-8")
USERS = FOLDER / "initdb" / "20-users.sh"
COMPOSE = yaml.safe_load((FOLDER.parent / "compose.yaml").read_text(encoding="utf-8"))
WRONG = "GRANT SELEKT ON tidebook.* TO analyst"
ACCESS_DENIED, CONSTRAINT = 497, 452  # ClickHouse's codes
NO_STORAGE = "chDB keeps no roles, users, profiles and quotas: it has no writeable storage of access"
CANNOT_RUN = dict.fromkeys(
    ("CREATE ROLE", "CREATE SETTINGS PROFILE", "ALTER SETTINGS PROFILE", "CREATE QUOTA", "ALTER QUOTA", "ALTER ROLE",
     "GRANT", "REVOKE", "CREATE USER", "ALTER USER"),
    NO_STORAGE,
)  # fmt: skip


def statements(sql: str) -> list[str]:
    """The statements of a file, without its comments; no text in it holds a semicolon."""
    bare = re.sub(r"--[^\n]*", "", sql)
    return [" ".join(one.split()) for one in bare.split(";") if one.strip()]


def of_users() -> list[str]:
    """The statements that 20-users.sh sends, for one user."""
    (text,) = re.findall(r"<<SQL\n(.*?)\nSQL\n", USERS.read_text(encoding="utf-8"), re.DOTALL)
    return statements(text.replace("$1", "someone").replace("$2", "sink").replace("$hash", "0" * 64))


def deployed() -> list[str]:
    """All statements of deploy/clickhouse."""
    return statements(ROLES_SQL) + of_users()


def of_project() -> list[str]:
    """All SQL that the project makes for its tables: CREATE, the views, and every INSERT … SELECT."""
    made = [*COMMIT_TABLES, *(view.sql for view in views())]
    for schema in schemas():
        if schema.clickhouse is None:
            continue
        form = documented(schema)
        for table in (*ddl.tables(form), ddl.applied(form)):
            insert = ddl.insert_select(table, schema.topic_name, form, form, "sink_stage")
            assert insert is not None
            made += [ddl.create_table(table), insert, ddl.count_rows(table, form, form, "sink_stage")]
        made.append(ddl.create_stage("sink_stage", form))
    return made


def settings_of(role: str) -> Iterator[tuple[str, str, dict[str, str]]]:
    """(name, value, constraints) of a role's profile: what stands in `ALTER SETTINGS PROFILE`."""
    (text,) = re.findall(
        rf"ALTER SETTINGS PROFILE {role} SETTINGS (.*?)(?:;|$)",
        "\n".join(statements(ROLES_SQL)),
        re.MULTILINE,
    )
    for one in text.split(", "):
        name, value, least, most, fixed = re.fullmatch(
            r"(\w+) = '?(\w+)'?(?: MIN (\d+))?(?: MAX (\d+))?( CONST)?", one
        ).groups()  # type: ignore[union-attr]
        limits = {"min": least, "max": most, "const": "" if fixed else None}
        yield name, value, {kind: limit for kind, limit in limits.items() if limit is not None}


def configuration(role: str, folder: Path) -> Path:
    """chDB's configuration in which its one user has the rights and the profile of a role."""
    asked = [one for one in statements(ROLES_SQL) if re.match(rf"(GRANT|REVOKE) .* (TO|FROM) {role}$", one)]
    grants = [re.sub(r" (TO|FROM) \w+$", "", one).replace("ON tidebook.", "ON default.") for one in asked]
    assert grants
    grants.append("GRANT FILE ON *.*")  # chDB's database `default` also looks for files named as the table
    values = "".join(f"<{name}>{value}</{name}>" for name, value, _ in settings_of(role))
    limits = "".join(
        f"<{name}>{''.join(f'<{kind}>{limit}</{kind}>' for kind, limit in told.items())}</{name}>"
        for name, _, told in settings_of(role)
        if told
    )
    users = folder / "users.xml"
    users.write_text(
        f"<clickhouse><profiles><default>{values}<constraints>{limits}</constraints></default></profiles>"
        "<quotas><default/></quotas><users><default><password></password><networks><ip>::/0</ip></networks>"
        "<profile>default</profile><quota>default</quota>"
        f"<grants>{''.join(f'<query>{escape(one)}</query>' for one in grants)}</grants>"
        "</default></users></clickhouse>"
    )
    config = (
        folder / "engine.xml"
    )  # not config.xml: the engine takes one of that name from where it is started
    config.write_text(f"<clickhouse><users_config>{users}</users_config></clickhouse>")
    return config


def life(role: str, folder: Path, *config: str, told: str = "") -> dict[str, Any]:
    """What a process of the role tells."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.clickhouse_role_child", role, *config], input=told,
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture(scope="module")
def lives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Both roles on one folder: the sink fills it, the analyst reads it. And what ClickHouse says of the SQL."""
    folder = tmp_path_factory.mktemp("roles")
    asked = {"parse": [*deployed(), *of_project(), WRONG], "run": deployed()}
    found = {role: life(role, folder, str(configuration(role, folder))) for role in ("sink", "analyst")}
    return found | {"parser": life("parser", folder, told=json.dumps(asked))}


def test_every_statement_is_read_by_clickhouse(lives: dict[str, dict[str, Any]]) -> None:
    assert lives["parser"]["unread"] == [WRONG]


def test_what_chdb_cannot_run_is_listed(lives: dict[str, dict[str, Any]]) -> None:
    """Of the deployed statements: all but the list run as they are, and what is listed does not run."""
    ran = {sql for sql, code in lives["parser"]["codes"].items() if code == 0}
    listed = {sql for sql in deployed() if sql.startswith(tuple(CANNOT_RUN))}
    assert ran == set(deployed()) - listed
    used = {kind for kind in CANNOT_RUN for sql in listed if sql.startswith(kind)}
    assert used == set(CANNOT_RUN), "the list names what is not there"


def test_the_sink_can_do_its_work_and_no_more(lives: dict[str, dict[str, Any]]) -> None:
    told = lives["sink"]
    assert (told["start"], told["rows"]) == (3, 6)
    assert set(told["tried"].values()) == {ACCESS_DENIED}, told["tried"]
    assert set(told["allowed"].values()) == {0}, told["allowed"]


def test_an_analyst_reads_tables_and_views_within_limits(lives: dict[str, dict[str, Any]]) -> None:
    told = lives["analyst"]
    assert told["denied"] == [[name, ACCESS_DENIED] for name in ("sink_applied", "sink_intents")]
    assert {"xrpl_ledgers", "sink_progress", "gas_report", "pipeline_freshness"} <= set(told["read"])
    assert told["limits"] == [2, 120]
    codes = told["codes"]
    assert {sql: code for sql, code in codes.items() if code == 0} == {
        "SET max_execution_time = 5": 0, "SET final = 0": 0, "SELECT 1": 0,
    }  # fmt: skip
    assert codes["SET max_execution_time = 0"] == codes["SET result_overflow_mode = 'break'"] == CONSTRAINT
    assert codes["SELECT * FROM sink_applied"] == ACCESS_DENIED


def test_users_have_one_role_each_and_no_password_in_a_file() -> None:
    text = USERS.read_text(encoding="utf-8")
    calls = re.findall(r'^user (\w+) (\w+) "\$(\w+)"$', text, re.MULTILINE)
    assert [(user, role) for user, role, _ in calls] == [
        ("tidebook", "sink"), ("analyst", "analyst"), ("operator", "admin"),
    ]  # fmt: skip
    made = re.findall(r"CREATE ROLE IF NOT EXISTS (\w+)", ROLES_SQL)
    assert {role for _, role, _ in calls} == set(made)
    environment = COMPOSE["services"]["clickhouse"]["environment"]
    assert {variable for *_, variable in calls} <= set(environment)
    assert "IDENTIFIED" not in ROLES_SQL and "sha256_hash BY '$hash'" in text
    assert subprocess.run(["sh", "-n", str(USERS)], check=False).returncode == 0 and os.access(USERS, os.X_OK)


def test_the_server_s_configuration_listens_and_asks_no_other_host() -> None:
    root = ElementTree.parse(FOLDER / "config" / "tidebook.xml").getroot()
    assert root.findtext("listen_host") == "0.0.0.0" and root.findtext("timezone") == "UTC"
    hosts = root.find("remote_url_allow_hosts")
    assert hosts is not None and len(hosts) == 0
    mounted = {volume.split(":")[1] for volume in COMPOSE["services"]["clickhouse"]["volumes"]}
    assert {"/etc/clickhouse-server/config.d", "/docker-entrypoint-initdb.d"} <= mounted
