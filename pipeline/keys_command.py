"""`tidebook keys create | list | revoke`: who may use `tidebook serve`."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime

import orjson
from rich.console import Console
from rich.table import Table

from pipeline.api.keys import Key, KeyFault, Keys
from pipeline.settings import Settings
from pipeline.terminal import cell

KEYS_FILE = "keys.db"


def create_key(
    settings: Settings, client: str, user: str, scopes: Sequence[str], rate: float, as_json: bool
) -> int:
    """Print a new key, once; 0, 1 where the directory can't be written, 2 for a wrong call."""

    def work(keys: Keys) -> int:
        key, text = keys.create(client, user, scopes, rate)
        if as_json:
            sys.stdout.buffer.write(orjson.dumps({"key": text, **_told(key)}) + b"\n")
            return 0
        print(text)
        sys.stderr.write(
            f"key {key.id} of client {client}: this is the only time that it is shown; "
            "send it as `Authorization: Bearer <key>`\n"
        )
        return 0

    return _with_keys(settings, work)


def list_keys(settings: Settings, as_json: bool) -> int:
    """Print every key (not its text)."""

    def work(keys: Keys) -> int:
        rows = [_told(key) for key in keys.all()]
        if as_json:
            for row in rows:
                sys.stdout.buffer.write(orjson.dumps(row) + b"\n")
            return 0
        table = Table(*(rows[0] if rows else ("no keys: `tidebook keys create` makes one",)))
        for row in rows:
            table.add_row(
                *(cell(" ".join(value) if isinstance(value, list) else value) for value in row.values())
            )
        Console().print(table)
        return 0

    return _with_keys(settings, work)


def revoke_key(settings: Settings, key_id: str) -> int:
    """Refuse a key from now on (a running server: within a second)."""

    def work(keys: Keys) -> int:
        print(f"key {key_id} of client {keys.revoke(key_id).client.id} is revoked")
        return 0

    return _with_keys(settings, work)


def _with_keys(settings: Settings, work: Callable[[Keys], int]) -> int:
    try:
        with closing(Keys(settings.intake_dir / KEYS_FILE)) as keys:
            return work(keys)
    except KeyFault as fault:
        sys.stderr.write(f"tidebook: {fault}\n")
        return 2
    except (sqlite3.Error, OSError) as error:
        sys.stderr.write(f"tidebook: keys in {settings.intake_dir} (setting TIDEBOOK_DATA_DIR): {error}\n")
        return 1


def _told(key: Key) -> dict[str, object]:
    return {
        "id": key.id,
        "client": key.client.id,
        "user": key.client.user_id,
        "scopes": sorted(key.client.scopes),
        "rate_per_s": key.client.rate_per_s,
        "created": _iso(key.created_ms),
        "revoked": _iso(key.revoked_ms) if key.revoked_ms is not None else None,
    }


def _iso(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
