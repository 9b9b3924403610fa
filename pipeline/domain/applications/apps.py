"""The applications whose assets stand on chains, as the configuration names them. Pure.

S0's sync watches three kinds of addresses of an application: issuers (of NFTs and MPTs; on EVM chains the contracts
of ERC-721 tokens), treasuries (that hold what is in managed custody and pay fees) and attestors (that put digests of
positions on the chain). All are written `<chain>/<address>`, EVM addresses in lower case, and belong to one
application each.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final

import orjson

from pipeline.domain.decode.xrpl_address import decode_account

ROLES: Final = ("issuers", "treasuries", "attestors")
_XRPL_CHAIN: Final = re.compile(r"xrpl:[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_EVM_CHAIN: Final = re.compile(r"eip155:(0|[1-9][0-9]{0,17}|recorded-[0-9a-f]{8})")
_EVM_ADDRESS: Final = re.compile(r"0x[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class App:
    """One application; addresses as `chain_address` gives them."""

    id: str
    title: str
    issuers: tuple[str, ...] = ()
    treasuries: tuple[str, ...] = ()
    attestors: tuple[str, ...] = ()


def _by_address(apps: Iterable[App], role: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for app in apps:
        for address in getattr(app, role):
            if address in found:
                raise ValueError(
                    f"apps.{app.id}.{role}: {address} is named by apps.{found[address]} already; keep one"
                )
            found[address] = app.id
    return found


@dataclass(frozen=True)
class Apps:
    """All applications; false where there are none."""

    apps: tuple[App, ...] = ()
    issuers: Mapping[str, str] = field(init=False, repr=False)  # address → application
    treasuries: Mapping[str, str] = field(init=False, repr=False)
    attestors: Mapping[str, str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Raises ValueError (one line, naming the key) where an address is named twice in one role."""
        for role in ROLES:
            object.__setattr__(self, role, _by_address(self.apps, role))

    def __bool__(self) -> bool:
        return bool(self.apps)


NO_APPS: Final = Apps()


def chain_address(text: str) -> str:
    """`<chain>/<address>` in the one form that is compared. Raises ValueError saying what is wrong and what to do."""
    chain, slash, address = text.partition("/")
    if not slash or not address:
        raise ValueError(f"{text[:80]!r} is no address of a chain; write <chain>/<address>, e.g. xrpl:0/r…")
    if _XRPL_CHAIN.fullmatch(chain):
        try:
            decode_account(address)
        except ValueError:
            raise ValueError(
                f"{address[:80]!r} is no XRPL account (its checksum does not hold); write it as r…"
            ) from None
        return text
    if _EVM_CHAIN.fullmatch(chain):
        if not _EVM_ADDRESS.fullmatch(address.lower()):
            raise ValueError(f"{address[:80]!r} is no EVM address; write 0x and 40 hex digits")
        return f"{chain}/{address.lower()}"
    raise ValueError(f"{chain[:80]!r} names no chain; write xrpl:<network> or eip155:<chain id>")


def app_events(apps: Apps) -> list[dict[str, Any]]:
    """Bodies of the APP_REGISTERED events of assets.activity.v1 that make the applications known (S0's app_id).

    What an application says decides its idempotency key: said again it is the same event, changed it is another.
    """
    return [_registered(app) for app in apps.apps]


def _registered(app: App) -> dict[str, Any]:
    data = {"title": app.title, "issuers": list(app.issuers), "treasuries": list(app.treasuries)}
    digest = blake2b(orjson.dumps([app.id, data], option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()
    return {"type": "APP_REGISTERED", "asset_id": app.id, "idempotency_key": digest, "data": data}
