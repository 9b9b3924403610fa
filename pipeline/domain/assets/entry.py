"""What is asked of S0's events where they come in: ids that can be read, addresses that are some, coins in one
spelling. See pipeline.domain.applications.entry. Pure.
"""

from __future__ import annotations

import re
from typing import Any, Final

from pipeline.domain.applications.apps import chain_address
from pipeline.domain.applications.entry import new_id
from pipeline.domain.applications.event import AppEvent, Refusal
from pipeline.domain.assets.checks import bad

_NEW_ID: Final = new_id("asset_id")
_COIN: Final = re.compile(r"[A-Z0-9][A-Z0-9_-]*(?:[.:].+)?")


def user_registered(event: AppEvent) -> None:
    """A new id, real addresses. Raises Refusal."""
    _NEW_ID(event)
    _addresses(event.data, "addresses")


def user_addresses_changed(event: AppEvent) -> None:
    """Real addresses; whatever a former release has let in can be taken away. Raises Refusal."""
    _addresses(event.data, "added")


def app_registered(event: AppEvent) -> None:
    """Real addresses. Raises Refusal."""
    _addresses(event.data, "issuers")
    _addresses(event.data, "treasuries")


def asset_registered(event: AppEvent) -> None:
    """A new id. Raises Refusal."""
    _NEW_ID(event)


def onchain_send(event: AppEvent) -> None:
    """A real address: to none other can anything be sent. Raises Refusal."""
    _address(event.data["to_address"], "data.to_address")


def gas(event: AppEvent) -> None:
    """A coin in its one spelling, for it names a book: XRP, never xrp. Raises Refusal."""
    coin = event.data["currency"]
    if not _COIN.fullmatch(coin):
        raise bad("data.currency", coin, "a coin's code in capital letters, e.g. XRP or ETH", "bad_currency")


def _addresses(data: Any, name: str) -> None:
    for place, text in enumerate(data[name]):
        _address(text, f"data.{name}.{place}")


def _address(text: str, field: str) -> None:
    try:
        chain_address(text)
    except ValueError as fault:
        raise Refusal("bad_address", field, f"{fault}") from None
