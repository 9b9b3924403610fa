"""Which XRPL nodes there are and what each is for (setting TIDEBOOK_XRPL_URLS)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, cast, get_args
from urllib.parse import urlsplit

Role = Literal["core", "treasury", "member"]
ROLES: Final = get_args(Role)
SETTING: Final = "TIDEBOOK_XRPL_URLS"


class AddressError(ValueError):
    """The setting can't be used; the message names it and says what to write."""


@dataclass(frozen=True, slots=True)
class Address:
    """One node: its URL, and its role in S2's topology (core: public reads for analytics and monitoring;
    treasury: private, issuer operations only; member: reads for the members' clients). The ingest reads
    core nodes only: it must neither load the treasury's node nor depend on the members' limits."""

    url: str
    role: Role = "core"

    @property
    def name(self) -> str:
        """host[:port][/path], without credentials: what logs, metrics and verdicts show."""
        parts = urlsplit(self.url)
        return parts.netloc.rpartition("@")[2] + parts.path.rstrip("/")


def parse_addresses(text: str) -> list[Address]:
    """`[role=]ws(s)://host[:port][/path][,…]`, at least one of role core. Raises AddressError."""
    found = [_address(part.strip()) for part in text.split(",") if part.strip()]
    if not found:
        raise AddressError(f"setting {SETTING} is empty: which nodes? e.g. {SETTING}=wss://xrplcluster.com")
    if not any(address.role == "core" for address in found):
        raise AddressError(f"setting {SETTING}={text!r} names no core node: the ingest reads core nodes only")
    if len({address.url for address in found}) < len(found):
        raise AddressError(f"setting {SETTING}={text!r} names a node twice")
    return found


def core(addresses: Sequence[Address]) -> list[Address]:
    """Those that the ingest reads."""
    return [address for address in addresses if address.role == "core"]


def _address(part: str) -> Address:
    role, mark, url = part.partition("=")
    if not mark or "://" in role:
        role, url = "core", part
    if role not in ROLES:
        raise AddressError(f"setting {SETTING}: {role!r} is no role; there are {', '.join(ROLES)}")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise AddressError(f"setting {SETTING}: {url!r}: {error}") from None
    if parts.scheme in ("http", "https"):
        other = "wss" if parts.scheme == "https" else "ws"
        raise AddressError(
            f"setting {SETTING}: {url!r} is an HTTP address: write the node's WebSocket one, {other}://…"
        )
    if parts.scheme not in ("ws", "wss") or not host:
        raise AddressError(f"setting {SETTING}: {url!r} is not [role=]ws(s)://host[:port][/path]")
    return Address(url, cast(Role, role))
