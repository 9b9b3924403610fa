"""How operators write events, accounts, amounts and times on the command line."""

from __future__ import annotations

import sys
import uuid
from datetime import UTC, datetime
from typing import NoReturn

import typer

from pipeline.domain.account import AccountCode
from pipeline.domain.flows.events import EventName, Party

SOURCE = "operator"
CLIENT = "cli"


def fail(message: str, status: int) -> NoReturn:
    """One clear line on stderr, then end."""
    sys.stderr.write(f"tidebook: {message}\n")
    raise typer.Exit(status)


def event_name(event_id: str | None, attempt: int) -> EventName:
    """Name of a command's event; without an id a new one."""
    if event_id is None:
        return EventName(SOURCE, CLIENT, uuid.uuid4().hex, attempt)
    named = event_ref(event_id)
    return named._replace(attempt=attempt) if attempt else named


def event_ref(text: str) -> EventName:
    """KEY, SOURCE:CLIENT:KEY, each with #ATTEMPT or without."""
    base, mark, attempt = text.rpartition("#")
    if not mark or not attempt.isdigit():
        base, attempt = text, "0"
    if base.count(":") < 2:
        return EventName(SOURCE, CLIENT, base, int(attempt))
    source, client, key = base.split(":", 2)
    return EventName(source, client, key, int(attempt))


def party(text: str, field: str) -> Party:
    """OWNER or TYPE:OWNER; a user where no type is named."""
    kind, mark, owner = text.partition(":")
    if mark and kind.upper() in AccountCode.__members__:
        return Party(owner, AccountCode[kind.upper()])
    if not text:
        fail(f"{field}: is empty", 2)
    return Party(text)


def merchant_of(text: str) -> str:
    """An owner without a type is a merchant."""
    return text if ":" in text else f"merchant:{text}"


def account_code(text: str) -> AccountCode:
    """A type of account by its name."""
    if text.upper() not in AccountCode.__members__:
        fail(f"type: {text!r} is no type of account; there are user and merchant", 2)
    return AccountCode[text.upper()]


def whole_amount(text: str) -> int:
    """Whole units; what they may be is for the event to say."""
    try:
        if not text.lstrip("+-").isascii() or "_" in text:
            raise ValueError
        return int(text)
    except ValueError:
        fail(f"amount: {text!r} is no whole number of units", 2)


def time_ms(text: str | None, field: str) -> int:
    """Milliseconds since 1970; 0 where no time is named."""
    if text is None:
        return 0
    if text.isdigit():
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        fail(f"{field}: {text!r} is neither ISO 8601 nor milliseconds since 1970", 2)
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return round(aware.timestamp() * 1000)
