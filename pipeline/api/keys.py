"""API keys: who may do what. A key is 256 random bits, told once; only its SHA-256 is kept.

The file (`intake_dir/keys.db`, SQLite) may be open in several processes: `tidebook keys` writes, `tidebook serve`
reads. A server holds all keys in memory and asks the file whether anything has changed at most LOOK_S apart, so a
revoked key is refused within that time. Finding a key is one lookup by its hash, compared in constant time: how
long it takes tells nothing of what is stored.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, NamedTuple

from pipeline.api.client import READ, ROOT, SERVICE, WRITE, Client
from pipeline.catalog import APPLICATIONS

PREFIX: Final = "tbk_"
KEY_BYTES: Final = 32
LOOK_S: Final = 0.5
RESERVED_CLIENTS: Final = frozenset({"clock", "chain", "config", "api", "webhook"})
"""Names of the pipeline's own clients: an id is a hash of the client's name, too."""
SCOPES: Final = (
    *(f"{row.domain}:{kind}" for row in APPLICATIONS for kind in (WRITE, READ)),
    f"gas:{READ}",
    f"bank:{READ}",
    f"people:{WRITE}",
    f"people:{READ}",
    SERVICE,
    ROOT,
)
_CLIENT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_KEY: Final = re.compile(r"tbk_[A-Za-z0-9_-]{43}")
_RATE_MAX: Final = 1e9
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS keys (
  id TEXT PRIMARY KEY, hash BLOB NOT NULL UNIQUE, client TEXT NOT NULL, user_id TEXT NOT NULL, scopes TEXT NOT NULL,
  rate_per_s REAL NOT NULL, created_ms INTEGER NOT NULL, revoked_ms INTEGER);
"""


class KeyFault(ValueError):
    """What was asked of the keys can't be done; one line that says what to change."""


class Key(NamedTuple):
    """A key as it is listed; the key itself is known to its owner only."""

    id: str  # first eight hex digits of its hash
    client: Client
    created_ms: int
    revoked_ms: int | None


class Keys:
    """The keys of one data directory. Used by one thread."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Opens or makes the file, readable by its owner only. Raises sqlite3.Error, OSError."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        self._db = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.executescript(_TABLES)
        self._clock = clock
        self._version: tuple[int, int] | None = None
        self._looked_at = float("-inf")
        self._known: dict[bytes, Client] = {}

    def create(
        self, client: str, user_id: str = "", scopes: Iterable[str] = (), rate_per_s: float = 0
    ) -> tuple[Key, str]:
        """A new key and its text, which is nowhere else. Raises KeyFault."""
        wanted = frozenset(scopes)
        _check(client, user_id, wanted, rate_per_s)
        text = PREFIX + secrets.token_urlsafe(KEY_BYTES)
        digest = _digest(text)
        key = Key(
            digest.hex()[:8], Client(client, user_id, wanted, rate_per_s), int(time.time() * 1000), None
        )
        try:
            self._db.execute(
                "INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?, ?, NULL)",
                (key.id, digest, client, user_id, " ".join(sorted(wanted)), rate_per_s, key.created_ms),
            )
        except sqlite3.IntegrityError:  # eight digits that are taken: once in 2^32
            return self.create(client, user_id, wanted, rate_per_s)
        return key, text

    def revoke(self, id: str) -> Key:
        """The key is refused from now on; revoking again changes nothing. Raises KeyFault for an unknown id."""
        self._db.execute(
            "UPDATE keys SET revoked_ms = coalesce(revoked_ms, ?) WHERE id = ?", (int(time.time() * 1000), id)
        )
        found = [key for key in self.all() if key.id == id]
        if not found:
            raise KeyFault(f"there is no key {id!r}; `tidebook keys list` shows them")
        return found[0]

    def all(self) -> list[Key]:
        """Every key, the oldest first, revoked ones among them."""
        rows = self._db.execute(
            "SELECT id, client, user_id, scopes, rate_per_s, created_ms, revoked_ms FROM keys ORDER BY created_ms, id"
        )
        return [
            Key(id, Client(client, user, frozenset(scopes.split()), rate), created, revoked)
            for id, client, user, scopes, rate, created, revoked in rows
        ]

    def find(self, text: str) -> Client | None:
        """The client of a key, None for one that is unknown, malformed or revoked."""
        self._refresh()
        if not _KEY.fullmatch(text):
            return None
        digest = _digest(text)
        client = self._known.get(digest)
        kept = digest if client is not None else bytes(len(digest))
        return client if hmac.compare_digest(kept, digest) else None

    def _refresh(self) -> None:
        now = self._clock()
        if now - self._looked_at < LOOK_S:
            return
        self._looked_at = now
        (version,) = self._db.execute("PRAGMA data_version").fetchone()
        changed = (version, self._db.total_changes)
        if changed == self._version:
            return
        rows = self._db.execute(
            "SELECT hash, client, user_id, scopes, rate_per_s FROM keys WHERE revoked_ms IS NULL"
        )
        self._known = {
            digest: Client(client, user, frozenset(scopes.split()), rate)
            for digest, client, user, scopes, rate in rows
        }
        self._version = changed

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _check(client: str, user_id: str, scopes: frozenset[str], rate_per_s: float) -> None:
    if not _CLIENT.fullmatch(client):
        raise KeyFault(
            f"client {client!r}: letters, digits, '.', '_' and '-', at most 64, a letter or digit first"
        )
    if client in RESERVED_CLIENTS:
        raise KeyFault(f"client {client!r} is the pipeline's own; choose another name")
    if len(user_id) > 256 or not user_id.isprintable():
        raise KeyFault("user: at most 256 characters that can be printed")
    unknown = sorted(scopes.difference(SCOPES))
    if unknown:
        raise KeyFault(f"no scope {unknown[0]!r}; there are {', '.join(SCOPES)}")
    if not scopes:
        raise KeyFault(f"a key needs a scope: {', '.join(SCOPES)}")
    if user_id and scopes & {SERVICE, ROOT}:
        raise KeyFault("a user's key can't have the scope service or root: these act for everybody")
    if not 0 <= rate_per_s <= _RATE_MAX:
        raise KeyFault(f"rate {rate_per_s}: requests a second, 0 (the default) to {_RATE_MAX:.0f}")
