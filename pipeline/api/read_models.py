"""What the read API answers, field by field: its OpenAPI document is made of these models, and tests hold it to them.

Exact amounts are decimal strings, times ISO 8601 in UTC with milliseconds, missing things null. Names are S0's, S3's
and S4's; what is S1's is in S1's camel case.
"""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

import orjson
from pydantic import BaseModel, ConfigDict, Field

from pipeline.api.client import ApiError

LIMIT: Final = 50
LIMIT_MAX: Final = 500
ID_MAX: Final = 256  # characters of an id
CURSOR_MAX: Final = 2048
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS_MAX: Final = 253402300799999  # end of the year 9999


class Model(BaseModel):
    """Extra fields of a state are not told."""

    model_config = ConfigDict(extra="ignore")


class ErrorBody(Model):
    """What is wrong: in one word, the field at fault, one line."""

    reason: str
    field: str
    detail: str


class Error(Model):
    """Every answer that is not what was asked."""

    error: ErrorBody


class Page(Model):
    """`next` is the cursor of the page after; null: there is none."""

    next: str | None = None


GasLeftOut = Annotated[
    bool, Field(description="Whether rows of gas are left out: true without a key that has scope gas:read.")
]


class Asset(Model):
    """S0: an asset's registry entry and its state."""

    asset_id: str
    version: int = Field(description="How often its state was changed.")
    asset_type: str = ""
    app_id: str = ""
    title: str = ""
    thumbnail_url: str | None = None
    issuer_user_id: str | None = None
    nfc_uuid: str | None = None
    mpt_issuance_id: str | None = None
    token: str | None = Field(None, description="Its token on a chain.")
    owner_user_id: str | None = Field(None, description="Beneficial owner; null: several, or unknown.")
    custody_type: str = Field("", description="onchain, managed or hybrid.")
    fraction_count: int = Field(1, description="Units it is divided into; 1: whole.")
    holdings: dict[str, str] = Field(default_factory=dict, description="Units of each holder, exact.")
    container_type: str | None = None
    parent_container_id: str | None = None
    contents: list[str] = Field(default_factory=list)
    onchain_status: str = ""
    onchain_holder: str | None = None
    listing: dict[str, Any] | None = None
    fraction_listings: dict[str, Any] = Field(default_factory=dict)
    burnt: bool = False
    minted: bool = False
    pending: dict[str, Any] | None = None
    last_event_id: str = ""
    last_updated_at: str


class Assets(Page):
    """Assets, in the order told by the endpoint."""

    assets: list[Asset]


class Activity(Model):
    """Something that was done to an asset, or with it; `payload` as its event says it."""

    event_id: str
    type: str
    asset_id: str
    at: str
    recorded_at: str
    user_id: str | None
    app_id: str
    source: str = Field(description="api, webhook:<name>, clock or chain:<chain>.")
    payload: dict[str, Any] | None


class Transactions(Page):
    """S0's asset_transactions: applied ones, oldest first."""

    asset_id: str
    gas_left_out: GasLeftOut
    transactions: list[Activity]


class Events(Page):
    """S0's asset_events: what changes no state, oldest first."""

    asset_id: str
    events: list[Activity]


class Provenance(Page):
    """S0's provenance: the asset, and all that happened to it in order."""

    asset: Asset
    gas_left_out: GasLeftOut
    history: list[Activity]


class GasSum(Model):
    """S0's three sums of a user's gas in one currency's smallest unit."""

    user_id: str
    currency: str
    transactions: int
    total_gas_required: str
    total_gas_paid_by_user: str
    total_gas_paid_by_treasury: str


class GasReport(Page):
    """Gas in managed custody, applied charges and coverages alone."""

    gas: list[GasSum]


class LedgerEvent(Model):
    """S1's ledger event."""

    id: str
    kind: str
    positionId: str
    at: str
    previousState: str | None
    newState: str | None
    payload: dict[str, Any] | None
    createdAt: str


class LedgerEvents(Page):
    """S1's ledger events, ordered by `at`."""

    events: list[LedgerEvent]


class Position(Model):
    """S1's position as it stands."""

    id: str
    institutionId: str
    assetId: str
    templateId: str | None
    holderReference: str
    currency: str
    amount: str
    state: str
    remainder: str
    funder: str | None
    externalReference: str | None
    attestations: list[str]
    createdAt: str
    updatedAt: str


class Authorization(Model):
    """S4's authorization as it stands."""

    authorization_id: str
    user: str
    anchor: str
    amount: str
    state: str
    merchant: str | None
    attestor: str | None
    expires_at: str | None
    created_at: str | None
    updated_at: str | None


class Balance(Model):
    """S3's ledger_balance."""

    token_type: str
    visible_label: str | None
    regulated_flag: bool | None
    available: str
    locked: str
    updated_at: str | None


class Balances(Model):
    """Balances of an account, by token type."""

    account_id: str
    balances: list[Balance]


class TokenPosition(Model):
    """S3's economic_position."""

    position_id: str
    position_type: str
    token_type: str
    amount: str
    status: str
    reference_type: str
    reference_id: str
    created_at: str | None
    updated_at: str | None


class TokenPositions(Page):
    """Positions of an account."""

    account_id: str
    positions: list[TokenPosition]


class Reputation(Model):
    """S3's reputation: what is held, and the scores behind it."""

    account_id: str
    positions: list[TokenPosition]
    scores: list[dict[str, Any]]


class Vote(Model):
    """A vote that was cast."""

    proposal_id: str
    right_id: str
    choice: str
    weight: str
    cast_at: str | None


class Votes(Page):
    """Votes of an account."""

    account_id: str
    votes: list[Vote]


class Movement(Model):
    """A transfer in the books that an owner gave or got."""

    transfer_id: str
    event_id: str
    at: str
    asset: str
    direction: str = Field(description="in, out, or self: between accounts of one owner.")
    counterparty: str
    status: str
    flow: str
    amount: str = Field(description="Exact; of S3's tokens in tokens, else in the asset's smallest units.")


class Statement(Page):
    """Transfers of an owner, oldest first."""

    owner: str
    transfers: list[Movement]


def iso(at_ms: int | None) -> str | None:
    """A time in milliseconds as ISO 8601; null where it is none, or beyond the year 9999."""
    if at_ms is None or not 0 <= at_ms <= _MS_MAX:
        return None
    moment = _EPOCH + timedelta(milliseconds=at_ms)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def to_cursor(*place: str | int) -> str:
    """A place in a list, opaque."""
    return base64.urlsafe_b64encode(orjson.dumps(place)).decode().rstrip("=")


def of_cursor(text: str | None, *kinds: type) -> tuple[Any, ...] | None:
    """The place again. Raises ApiError 400 for what `to_cursor` has not made."""
    if text is None or text == "":
        return None
    try:
        found = orjson.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (binascii.Error, ValueError):
        found = None
    fits = isinstance(found, list) and len(found) == len(kinds)
    if not fits or any(type(value) is not kind for value, kind in zip(found, kinds, strict=True)):
        raise ApiError(400, "bad_cursor", "cursor: take it as `next` of the page before told it", "cursor")
    if any(type(value) is int and not 0 <= value <= _MS_MAX for value in found):
        raise ApiError(400, "bad_cursor", "cursor: take it as `next` of the page before told it", "cursor")
    return tuple(found)
