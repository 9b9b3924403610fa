"""Accounts of S0 in the books: fractions of an asset, gas in managed custody. Pure."""

from __future__ import annotations

from pipeline.domain.account import AccountCode, AccountRef
from pipeline.domain.flows.accounts import asset_key


def fraction_book(asset_id: str) -> str:
    """Book of an asset's units."""
    return asset_key(f"fraction:{asset_id}")


def user_units(asset_id: str, user: str) -> AccountRef:
    """A user's units in custody of the application."""
    return AccountRef(fraction_book(asset_id), int(AccountCode.USER), user)


def all_units(asset_id: str) -> AccountRef:
    """Where units come from and go back to."""
    return AccountRef(fraction_book(asset_id), int(AccountCode.TREASURY), "")


def chain_units(asset_id: str, token: str) -> AccountRef:
    """Units in custody of the chain; whose they are there is in the books of the token itself."""
    return AccountRef(fraction_book(asset_id), int(AccountCode.HOLDER), token)


def gas_of_user(currency: str, user: str) -> AccountRef:
    """What a user has paid for gas."""
    return AccountRef(asset_key(f"gas:{currency}"), int(AccountCode.GAS), user)


def gas_of_treasury(currency: str, app: str) -> AccountRef:
    """What an application's treasury has paid for its users' gas."""
    return AccountRef(asset_key(f"gas:{currency}"), int(AccountCode.GAS), f"treasury:{app}")


def gas_pool(currency: str, app: str) -> AccountRef:
    """Where an application's gas is paid to."""
    return AccountRef(asset_key(f"gas:{currency}"), int(AccountCode.FEE_POOL), app)
