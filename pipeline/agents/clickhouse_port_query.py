"""What the port takes as a query: parameters, settings, limits, format. Pure.

The engine itself keeps a query from writing: it runs with readonly = 1, which also refuses table functions that
read files or other hosts. What that mode lets through in chDB (INTO OUTFILE, file(), python(), DESCRIBE of a table
function, a second statement) is refused here, by looks: too much rather than too little, for whoever reaches the port
has no name. As no setting can be changed in that mode, those of the address and of a trailing SETTINGS clause are set
before it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

STREAMED: Final = frozenset(
    {"Native", "TabSeparated", "TSV", "CSV", "RowBinary", "JSONEachRow", "JSONLines", "NDJSON"}
)
"""Formats whose blocks, one after the other, are the whole result."""
QUERY_BYTES_MAX: Final = 1 << 20
DEFAULTS: Final[Mapping[str, str]] = {"final": "1", "result_overflow_mode": "throw"}
LIMITS: Final[Mapping[str, int]] = {
    "max_execution_time": 120,
    "max_memory_usage": 1 << 30,
    "max_result_bytes": 1 << 30,
    "max_result_rows": 100_000_000,
}
"""What one query may take; a client may ask for less, never for more."""
_SELECTS: Final = re.compile(r"[\s(]*(SELECT|WITH)\b", re.IGNORECASE)  # the engine streams nothing else
WHOLE_BYTES_MAX: Final = 128 << 20  # a result that can't be streamed is held whole

ACCESS_DENIED, SYNTAX_ERROR, BAD_ARGUMENTS, TOO_LARGE = 497, 62, 36, 307  # ClickHouse's codes

_TRANSPORT: Final = frozenset(
    {
        "query", "database", "default_format", "buffer_size", "wait_end_of_query", "session_id", "session_timeout",
        "session_check", "query_id", "quota_key", "compress", "decompress", "client_protocol_version", "role", "user",
        "password", "send_progress_in_http_headers", "http_headers_progress_interval_ms", "enable_http_compression",
        "stacktrace", "close_session", "cancel_http_readonly_queries_on_client_close",
        "http_write_exception_in_output_format", "add_http_cors_header",
    }
)  # fmt: skip
_OURS: Final = frozenset({"readonly", "log_comment"})  # settings; by the comment a query is found and ended
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_FIRST: Final = re.compile(
    r"[\s(]*(select|with|show|describe|desc|explain|exists)\b(?!\s+table\s+override)", re.IGNORECASE
)
_DESCRIBE: Final = re.compile(r"\s*(desc|describe)\b", re.IGNORECASE)
_DESCRIBE_PLAIN: Final = re.compile(
    r"\s*(desc|describe)\s+(table\s+)?[\w`\".]+\s*(settings\s+[\w\s=,']+?)?\s*(format\s+\w+)?\s*\Z",
    re.IGNORECASE,
)
_DENIED: Final = re.compile(r"(?<!\w)(file|python|outfile|infile)(?!\w)", re.IGNORECASE)
_TEXT: Final = re.compile(r"'(?:[^'\\]|\\.|'')*'", re.DOTALL)
_NOT_PLAIN: Final = re.compile(r"[;'\"`#$]|--|/\*|[^\x00-\x7f]")  # whatever a semicolon may stand or hide in
_FORMAT: Final = re.compile(r"\bFORMAT\s+(\w+)\s*\Z", re.IGNORECASE)
_VALUE: Final = r"(?:'(?:[^'\\]|\\.)*'|[\w.+-]+)"
_SETTINGS: Final = re.compile(
    rf"\bSETTINGS\s+((?:\w+\s*=\s*{_VALUE}\s*,\s*)*\w+\s*=\s*{_VALUE})(?=\s*(?:FORMAT\s+\w+\s*)?\Z)",
    re.IGNORECASE,
)
_SETTING: Final = re.compile(rf"(\w+)\s*=\s*({_VALUE})")
# The question by which clients learn what they may set: all that they ask for is set before the engine is read-only.
_ASKS_SETTINGS: Final = re.compile(
    r"\s*SELECT name, value, readonly FROM system\.settings( LIMIT \d+)?\s*(FORMAT \w+)?\s*\Z"
)


class BadQuery(ValueError):
    """A query that is not taken; `code` is ClickHouse's."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class PortQuery:
    """A query as the engine gets it."""

    sql: str
    format: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)  # set, in order, before readonly
    database: str = ""
    query_id: str = ""
    readonly: int = 1
    revision: int = 0  # of the Native format, as the client reads it

    @property
    def streamed(self) -> bool:
        """Whether its result can be sent block by block."""
        return self.format in STREAMED and _SELECTS.match(_without_comments_before(self.sql)) is not None


def read_query(arguments: Iterable[tuple[str, str]], body: str, headers: Mapping[str, str]) -> PortQuery:
    """The query of a request: `arguments` of its address (and form), its body, headers in lower case.

    Raises BadQuery.
    """
    told = dict(arguments)
    sql = "\n".join(part for part in (told.get("query", ""), body) if part.strip()).strip()
    if len(sql) > QUERY_BYTES_MAX:
        raise BadQuery(TOO_LARGE, f"the query has more than {QUERY_BYTES_MAX} characters")
    sql = sql.rstrip(";\n\r\t ")
    guard(sql)
    for name in ("compress", "decompress"):
        if told.get(name, "0") != "0":
            raise BadQuery(
                BAD_ARGUMENTS, f"{name}: this port does not compress blocks; switch compression off"
            )
    asked = {
        name: value
        for name, value in told.items()
        if name not in (*_TRANSPORT, *_OURS) and not name.startswith("param_")
    }
    sql, inside = lift_settings(sql)
    found = _FORMAT.search(sql)
    database = told.get("database") or headers.get("x-clickhouse-database", "")
    if database and not _NAME.match(database):
        raise BadQuery(BAD_ARGUMENTS, f"database: {database!r} is no name")
    default = told.get("default_format") or headers.get("x-clickhouse-format") or "TabSeparated"
    if not default.isalnum():
        raise BadQuery(BAD_ARGUMENTS, f"default_format: {default!r} is no format")
    query = PortQuery(
        sql=sql,
        format=found[1] if found else default,
        parameters={
            name.removeprefix("param_"): value for name, value in told.items() if name.startswith("param_")
        },
        settings=limited({**DEFAULTS, **asked, **inside}),
        database=database,
        query_id=told.get("query_id", ""),
        readonly=2 if _ASKS_SETTINGS.match(sql) else 1,
        revision=_number(told, "client_protocol_version"),
    )
    if query.streamed:
        return query
    capped = min(int(query.settings["max_result_bytes"]), WHOLE_BYTES_MAX)
    return replace(query, settings={**query.settings, "max_result_bytes": str(capped)})


def _number(told: Mapping[str, str], name: str) -> int:
    value = told.get(name) or "0"
    if not (value.isascii() and value.isdigit()):
        raise BadQuery(BAD_ARGUMENTS, f"{name}: {value!r} is no number")
    return int(value)


def guard(sql: str) -> None:
    """Refuse what the engine's read-only mode would let through. Raises BadQuery."""
    if not sql:
        raise BadQuery(SYNTAX_ERROR, "the query is empty")
    if not _FIRST.match(_without_comments_before(sql)):
        raise BadQuery(ACCESS_DENIED, "this port answers SELECT, SHOW, DESCRIBE, EXPLAIN and EXISTS alone")
    if "\0" in sql:
        raise BadQuery(SYNTAX_ERROR, "the query holds a zero byte")
    if denied := _DENIED.search(sql):
        raise BadQuery(
            ACCESS_DENIED,
            f"the word {denied[0]!r} is not taken by this port, not even in a text: use a parameter",
        )
    if ";" in sql and _NOT_PLAIN.search(
        _TEXT.sub(" ", sql)
    ):  # read-only mode lets SYSTEM STOP MERGES through
        raise BadQuery(ACCESS_DENIED, "one statement at a time, and a semicolon in a plain text alone")
    if "\\" in sql and ("`" in sql or '"' in sql):
        raise BadQuery(
            ACCESS_DENIED, "backslashes beside quoted names are not taken by this port: use parameters"
        )
    if _DESCRIBE.match(sql) and not _DESCRIBE_PLAIN.match(sql):
        raise BadQuery(ACCESS_DENIED, "this port describes tables alone")


def lift_settings(sql: str) -> tuple[str, dict[str, str]]:
    """(the query without its trailing SETTINGS clause, what that clause sets)."""
    found = _SETTINGS.search(sql)
    if found is None:
        return sql, {}
    told = {name: _unquoted(value) for name, value in _SETTING.findall(found[1]) if name not in _OURS}
    return f"{sql[: found.start()]}{sql[found.end() :]}", told


def limited(settings: Mapping[str, str]) -> dict[str, str]:
    """Settings with LIMITS: what is asked, but never above them. Raises BadQuery."""
    found = {}
    for name, value in settings.items():
        if not _NAME.match(name):
            raise BadQuery(BAD_ARGUMENTS, f"{name!r} is no setting")
        found[name] = value
    for name, most in LIMITS.items():
        value = found.get(name, "0")
        try:
            asked = math.ceil(float(value))
        except (ValueError, OverflowError):
            raise BadQuery(BAD_ARGUMENTS, f"{name}: {value!r} is no number") from None
        found[name] = str(asked if 0 < asked <= most else most)
    return found


def set_statement(settings: Mapping[str, str], readonly: int) -> str:
    """SET of all of them and, last, of readonly."""
    told = [f"{name} = {quoted(value)}" for name, value in settings.items()]
    return f"SET {', '.join([*told, f'readonly = {readonly}'])}"


def quoted(text: str) -> str:
    """`text` as a literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith("'") else value


def _without_comments_before(sql: str) -> str:
    """The query from its first word on: comments may stand before it."""
    while True:
        shorter = re.sub(
            r"\A\s*(--[^\n]*(\n|\Z)|/\*.*?\*/|#[^\n]*(\n|\Z))", "", sql, count=1, flags=re.DOTALL
        )
        if shorter == sql:
            return sql
        sql = shorter
