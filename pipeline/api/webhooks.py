"""Signed webhooks: a bank's or a KYC provider's deliveries become events, once each.

A delivery is signed with HMAC-SHA256 over "<timestamp>.<body>"; the header says
`Tidebook-Signature: t=<seconds since 1970>,v1=<hex>[,v1=<hex>…]` (several while a secret is being changed). One whose
time is off by more than the tolerance is refused, and one that was answered already is refused as replayed, from a
memory on disk (`intake_dir/webhooks.db`) that lasts as long as the time would still be good. What was not answered
for good (5xx, a kill) is not remembered: it may come again, and its idempotency key keeps it single.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import sqlite3
import time
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.api.client import SERVICE, WRITE, ApiError, Client
from pipeline.api.keys import RESERVED_CLIENTS
from pipeline.catalog import APPLICATIONS
from pipeline.domain.applications.event import AppTopic

SETTING: Final = "TIDEBOOK_WEBHOOKS_CONFIG"
SIGNATURE: Final = "Tidebook-Signature"
DELIVERY: Final = "Tidebook-Delivery"
TOLERANCE_S: Final = 300
SECRET_MIN: Final = 16
_NAME: Final = r"[a-z0-9][a-z0-9_-]{0,63}"
_SIGNATURE: Final = re.compile(r"[0-9a-f]{64}")
_PARTS_MAX: Final = 16


class WebhooksError(ValueError):
    """The file is wrong; one line that says where, what and what to do."""


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: str = Field(pattern=f"^{_NAME}$")
    topic: str
    client: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    secret_env: list[str] | str
    tolerance_s: int = Field(TOLERANCE_S, ge=1, le=86_400)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    webhook: list[_Form]


@dataclass(frozen=True, slots=True)
class Webhook:
    """One sender."""

    name: str
    row: AppTopic  # what its events are
    client: Client
    secrets: tuple[bytes, ...]  # any of them signs
    tolerance_s: int = TOLERANCE_S

    @property
    def source(self) -> str:
        """As the event has it."""
        return f"webhook:{self.name}"


def read_webhooks(path: Path, environ: Mapping[str, str]) -> dict[str, Webhook]:
    """Webhooks of the file (deploy/webhooks.example.toml explains it) by name. Raises WebhooksError."""

    def wrong(what: str) -> WebhooksError:
        return WebhooksError(f"setting {SETTING}={path}: {what}")

    try:
        forms = _File.model_validate(tomllib.loads(path.read_text(encoding="utf-8"))).webhook
    except OSError as error:
        raise wrong(
            f"can't be read: {error.strerror}; name a file like deploy/webhooks.example.toml"
        ) from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise wrong(f"is no TOML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise wrong(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    found: dict[str, Webhook] = {}
    for form in forms:
        if form.name in found:
            raise wrong(f"webhook {form.name} is there twice; choose another name")
        try:
            found[form.name] = _webhook(form, environ)
        except WebhooksError as error:
            raise wrong(f"webhook {form.name}: {error}") from None
    return found


def _webhook(form: _Form, environ: Mapping[str, str]) -> Webhook:
    rows = {row.topic: row for row in APPLICATIONS} | {row.domain: row for row in APPLICATIONS}
    row = rows.get(form.topic)
    if row is None:
        raise WebhooksError(
            f"no topic {form.topic!r}; there are {', '.join(one.topic for one in APPLICATIONS)}"
        )
    if form.client in RESERVED_CLIENTS:
        raise WebhooksError(f"client {form.client!r} is the pipeline's own; choose another name")
    names = [form.secret_env] if isinstance(form.secret_env, str) else form.secret_env
    secrets = [environ.get(name, "") for name in names]
    for name, secret in zip(names, secrets, strict=True):
        if len(secret) < SECRET_MIN:
            raise WebhooksError(
                f"secret_env: the variable {name} is {'empty' if not secret else 'too short'}; "
                f"set it to the sender's secret, at least {SECRET_MIN} characters"
            )
    if not secrets:
        raise WebhooksError("secret_env: name the variable that holds the sender's secret")
    client = Client(form.client, "", frozenset({SERVICE, f"{row.domain}:{WRITE}"}))
    return Webhook(form.name, row, client, tuple(one.encode() for one in secrets), form.tolerance_s)


def sign(secret: bytes, at_s: int, body: bytes) -> str:
    """The header that a sender sends."""
    return f"t={at_s},v1={_mac(secret, at_s, body)}"


def verify(hook: Webhook, header: str | None, body: bytes, now_s: float) -> bytes:
    """The name of the delivery: a hash of what was signed. Raises ApiError 401."""
    at_s, given = _parts(header)
    wanted = [_mac(secret, at_s, body) for secret in hook.secrets]
    good = False
    for one in given:
        for mac in wanted:  # all of them, always: the time taken tells nothing
            good |= hmac.compare_digest(one, mac)
    if not good:
        raise _refused(
            "bad_signature", "no v1 is the HMAC-SHA256 of '<t>.<body>' under this webhook's secret"
        )
    if abs(now_s - at_s) > hook.tolerance_s:
        raise _refused("stale", f"t is more than {hook.tolerance_s} s off our clock; sign each delivery anew")
    return hashlib.sha256(b"%s:%d." % (hook.name.encode(), at_s) + body).digest()


def _mac(secret: bytes, at_s: int, body: bytes) -> str:
    return hmac.new(secret, b"%d." % at_s + body, hashlib.sha256).hexdigest()


def _parts(header: str | None) -> tuple[int, list[str]]:
    if header is None:
        raise _refused("unsigned", f"send {SIGNATURE}: t=<seconds since 1970>,v1=<hex HMAC-SHA256>")
    parts = [part.strip().partition("=") for part in header.split(",")]
    times = [value for name, _, value in parts if name == "t"]
    given = [value for name, _, value in parts if name == "v1" and _SIGNATURE.fullmatch(value)]
    if len(times) != 1 or not re.fullmatch(r"[0-9]{1,12}", times[0]) or not given or len(parts) > _PARTS_MAX:
        raise _refused("bad_signature", "its form is t=<seconds since 1970>,v1=<64 hex digits>[,v1=…]")
    return int(times[0]), given


def _refused(reason: str, detail: str) -> ApiError:
    return ApiError(401, reason, detail, SIGNATURE, WWW_Authenticate=SIGNATURE)


class Deliveries:
    """Memory of deliveries that were answered for good. Used by one thread."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        """Raises sqlite3.Error, OSError."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS seen (delivery BLOB PRIMARY KEY, until_s INTEGER NOT NULL) WITHOUT ROWID"
        )
        self._db.execute("CREATE INDEX IF NOT EXISTS until ON seen (until_s)")
        self._clock = clock
        self._open: set[bytes] = set()  # being worked on

    def begin(self, delivery: bytes) -> None:
        """Raises ApiError 409 for one that was answered, or is being worked on."""
        row = self._db.execute("SELECT 1 FROM seen WHERE delivery = ?", (delivery,)).fetchone()
        if row is not None or delivery in self._open:
            raise ApiError(
                409, "replayed", "this delivery was taken in already; sign a new one anew", SIGNATURE
            )
        self._open.add(delivery)

    def end(self, delivery: bytes, hook: Webhook, answered: bool) -> None:
        """It is done; remembered, durably, if it was answered for good."""
        self._open.discard(delivery)
        if answered:
            now = int(self._clock())
            self._db.execute("DELETE FROM seen WHERE until_s < ?", (now,))
            self._db.execute(
                "INSERT OR REPLACE INTO seen VALUES (?, ?)", (delivery, now + 2 * hook.tolerance_s + 1)
            )

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()


__all__ = [
    "DELIVERY", "SIGNATURE", "Deliveries", "Webhook", "WebhooksError", "read_webhooks", "sign", "verify"
]  # fmt: skip
