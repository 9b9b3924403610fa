"""What can be said of a field of an event alone: amounts, ids, addresses and hashes in their one form. Pure.

A value that a chain also tells is brought into the chain's own spelling before it is compared: EVM writes hex in lower
case with 0x, XRPL in upper case; XRPL's addresses are base58 and stay as they are.
"""

from __future__ import annotations

import re
from typing import Any, Final

from pipeline.domain.applications.event import AppEvent, Refusal
from pipeline.domain.asset import mpt_issuer

ID_MAX: Final = 200
TEXT_MAX: Final = 2000
UNITS_MAX: Final = 10**12
AMOUNT_DIGITS_MAX: Final = 38
CUSTODY: Final = ("managed", "onchain")
CONTAINERS: Final = ("pack", "bundle")

_ID: Final = re.compile(r"[^\s|\x00-\x1f\x7f]+")
_INTEGER: Final = re.compile(r"0|[1-9][0-9]*")
_PRICE: Final = re.compile(r"(?:0|[1-9][0-9]{0,29})(?:\.[0-9]{1,18})?")
_CURRENCY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")
_CHAIN: Final = re.compile(r"[a-z0-9]+:[A-Za-z0-9._-]+")
_TOKEN: Final = re.compile(r"nft:[0-9A-F]{64}|mpt:[0-9A-F]{48}|erc721:0x[0-9a-f]{40}/(?:0|[1-9][0-9]*)")
_HASH: Final = re.compile(r"[0-9A-F]{64}|0x[0-9a-f]{64}")


def bad(field: str, value: object, wanted: str, reason: str = "bad_value") -> Refusal:
    """A refusal that says what is wanted of a field."""
    return Refusal(reason, field, f"{str(value)[:80]!r} is not {wanted}")


def is_id(value: str, field: str) -> str:
    """An id: 1 to 200 characters, no blanks. Raises Refusal."""
    if not _ID.fullmatch(value) or len(value) > ID_MAX:
        raise bad(field, value, f"an id of 1 to {ID_MAX} characters without blanks and |", "bad_id")
    return value


def text(data: Any, name: str, *, needed: bool = False) -> None:
    """A text of bounded length. Raises Refusal."""
    value = data[name]
    if needed and not (value or "").strip():
        raise Refusal("missing", f"data.{name}", "it must say something")
    if value is not None and len(value) > TEXT_MAX:
        raise Refusal("too_long", f"data.{name}", f"{len(value)} characters are more than {TEXT_MAX}")


def integer(data: Any, name: str, *, least: int = 0) -> int:
    """A whole number of smallest units, as decimal text. Raises Refusal."""
    value = data[name]
    if not _INTEGER.fullmatch(value) or len(value) > AMOUNT_DIGITS_MAX or int(value) < least:
        raise bad(f"data.{name}", value, f"a whole number of units from {least}", "bad_amount")
    return int(value)


def units(data: Any) -> int | None:
    """Units of a fractioned asset; None: the whole is meant. Raises Refusal."""
    if data["units"] is None:
        return None
    found = integer(data, "units", least=1)
    if found > UNITS_MAX:
        raise bad("data.units", data["units"], f"at most {UNITS_MAX}", "bad_amount")
    return found


def price(data: Any) -> str:
    """A price above 0 in its shortest form, so that 10 and 10.00 are one price. Raises Refusal."""
    value = data["price"]
    if not _PRICE.fullmatch(value):
        raise bad("data.price", value, "a decimal number, at most 30 digits and 18 decimals", "bad_amount")
    short: str = value.rstrip("0").rstrip(".") if "." in value else value
    if short == "0":
        raise bad("data.price", value, "above 0", "bad_amount")
    return short


def currency(data: Any) -> str:
    """Name of a currency. Raises Refusal."""
    value: str = data["currency"]
    if not _CURRENCY.fullmatch(value):
        raise bad("data.currency", value, "a currency, e.g. USD or XRP", "bad_currency")
    return value


def hashed(value: str, field: str) -> str:
    """A transaction's hash as its chain writes it. Raises Refusal."""
    found = value.lower() if value[:2].lower() == "0x" else value.upper()
    if not _HASH.fullmatch(found):
        raise bad(field, value, "64 hex digits, with 0x on an EVM chain", "bad_hash")
    return found


def address(value: str, field: str) -> str:
    """An address <chain>/<address> as its chain writes it. Raises Refusal."""
    chain, slash, rest = value.partition("/")
    if not slash or not _CHAIN.fullmatch(chain) or not _ID.fullmatch(rest) or len(value) > ID_MAX:
        raise bad(field, value, "<chain>/<address>, e.g. xrpl:0/r…", "bad_address")
    return f"{chain}/{rest.lower()}" if rest[:2].lower() == "0x" else value


def token(value: str, field: str) -> str:
    """A token's key as its chain writes it. Raises Refusal."""
    chain, _, rest = value.partition("/")
    kind, _, name = rest.partition(":")
    found = f"{kind}:{name.lower() if kind == 'erc721' else name.upper()}"
    if not _CHAIN.fullmatch(chain) or not _TOKEN.fullmatch(found):
        wanted = "<chain>/nft:<NFTokenID>, /mpt:<issuance id> or /erc721:<contract>/<token id>"
        raise bad(field, value, wanted, "bad_token")
    return f"{chain}/{found}"


def chain_of(key: str) -> str:
    """Chain of a token's or address's key."""
    return key.partition("/")[0]


def fungible(key: str) -> bool:
    """Whether a token has units and holders (MPT), not one holder."""
    return "/mpt:" in key


def issuer_of(key: str) -> str | None:
    """Address of an MPT's issuer; None for a token that is no MPT."""
    return f"{chain_of(key)}/{mpt_issuer(key.rpartition(':')[2])}" if fungible(key) else None


# checks of single event types, as the catalog's rows name them


def chain_observed(event: AppEvent) -> None:
    """Only a chain tells of itself. Raises Refusal."""
    if not event.source.startswith("chain:"):
        raise Refusal(
            "not_from_chain", "type", "CHAIN_OBSERVED is told by the pipeline's own reading of chains only"
        )
    kind, has_token = event.data["kind"], event.data["token"] is not None
    if kind not in ("token", "fee") or has_token != (kind == "token"):
        raise bad("data.kind", kind, "token with a token, or fee without one")
    integer(event.data, "amount")


def user_registered(event: AppEvent) -> None:
    """Id and addresses. Raises Refusal."""
    is_id(event.key, "asset_id")
    for place, one in enumerate(event.data["addresses"]):
        address(one, f"data.addresses.{place}")


def user_addresses_changed(event: AppEvent) -> None:
    """Id and addresses, none of them named twice. Raises Refusal."""
    is_id(event.key, "asset_id")
    seen = set[str]()
    for name in ("added", "removed"):
        for place, one in enumerate(event.data[name]):
            found = address(one, f"data.{name}.{place}")
            if found in seen:
                raise Refusal("twice", f"data.{name}.{place}", f"{found} is named twice")
            seen.add(found)
    if not seen:
        raise Refusal("missing", "data.added", "added or removed must name an address")


def app_registered(event: AppEvent) -> None:
    """Id, title and addresses. Raises Refusal."""
    is_id(event.key, "asset_id")
    text(event.data, "title", needed=True)
    for name in ("issuers", "treasuries"):
        for place, one in enumerate(event.data[name]):
            address(one, f"data.{name}.{place}")


def asset_registered(event: AppEvent) -> None:
    """The entry's fields. Raises Refusal."""
    data = event.data
    is_id(event.key, "asset_id")
    is_id(event.app_id, "app_id")
    is_id(data["asset_type"], "data.asset_type")
    text(data, "title", needed=True)
    text(data, "thumbnail_url")
    if data["custody_type"] not in CUSTODY:
        raise bad(
            "data.custody_type", data["custody_type"], "managed or onchain (hybrid comes of units sent)"
        )
    if data["container_type"] not in (None, *CONTAINERS):
        raise bad("data.container_type", data["container_type"], "pack, bundle or null")
    for name in ("issuer_user_id", "owner_user_id", "nfc_uuid"):
        if data[name] is not None:
            is_id(data[name], f"data.{name}")
    _check_token(data)


def _check_token(data: Any) -> None:
    issuance = data["mpt_issuance_id"]
    if issuance is not None and not re.fullmatch(r"[0-9A-Fa-f]{48}", issuance):
        raise bad("data.mpt_issuance_id", issuance, "48 hex digits")
    if data["token"] is None:
        if data["custody_type"] == "onchain":
            raise Refusal("missing", "data.token", "an asset in custody of the chain has a token there")
        return
    key = token(data["token"], "data.token")
    if issuance is not None and fungible(key) and not key.endswith(f":{issuance.upper()}"):
        raise Refusal("other_token", "data.token", f"{key} is not issuance {issuance}")


def metadata_updated(event: AppEvent) -> None:
    """Something must change. Raises Refusal."""
    if event.data["title"] is None and event.data["thumbnail_url"] is None:
        raise Refusal("missing", "data.title", "title or thumbnail_url must be there")
    text(event.data, "title", needed=event.data["title"] is not None)
    text(event.data, "thumbnail_url")


def minted(event: AppEvent) -> None:
    """Token and hash, where told. Raises Refusal."""
    if event.data["token"] is not None:
        token(event.data["token"], "data.token")
    if event.data["tx_hash"] is not None:
        hashed(event.data["tx_hash"], "data.tx_hash")


def transferred(event: AppEvent) -> None:
    """Units, where told. Raises Refusal."""
    units(event.data)


def fractioned(event: AppEvent) -> None:
    """2 to 10^12 units. Raises Refusal."""
    if not 2 <= event.data["fraction_count"] <= UNITS_MAX:
        raise bad("data.fraction_count", event.data["fraction_count"], f"2 to {UNITS_MAX}", "bad_amount")


def pack_created(event: AppEvent) -> None:
    """Kind and contents. Raises Refusal."""
    if event.data["container_type"] not in CONTAINERS:
        raise bad("data.container_type", event.data["container_type"], "pack or bundle")
    contents = event.data["contents"]
    if not contents:
        raise Refusal("missing", "data.contents", "a pack has something in it")
    if len(set(contents)) != len(contents):
        raise Refusal("twice", "data.contents", "an asset is named twice")


def priced(event: AppEvent) -> None:
    """Price, currency and units of a listing or a sale. Raises Refusal."""
    price(event.data)
    currency(event.data)
    units(event.data)


def onchain(event: AppEvent) -> None:
    """Hash, address and units. Raises Refusal."""
    hashed(event.data["tx_hash"], "data.tx_hash")
    if "to_address" in event.data:
        address(event.data["to_address"], "data.to_address")
    if "units" in event.data:
        units(event.data)


def gas(event: AppEvent) -> None:
    """The parts make up the whole. Raises Refusal."""
    data = event.data
    required = integer(data, "gas_required", least=1)
    parts = integer(data, "gas_paid_by_user") + integer(data, "gas_paid_by_treasury")
    if parts != required:
        raise Refusal(
            "not_the_sum", "data.gas_required", f"{required} is not the {parts} that was paid in all"
        )
    currency(data)
    if "treasury_tx_hash" in data:
        hashed(data["treasury_tx_hash"], "data.treasury_tx_hash")
        integer(data, "gas_paid_by_treasury", least=1)


def social(event: AppEvent) -> None:
    """Texts of bounded length, those that must say something. Raises Refusal."""
    for name, value in event.data.items():
        if isinstance(value, str):
            text(event.data, name, needed=True)
