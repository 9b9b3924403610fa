"""ONCHAIN_SEND, ONCHAIN_RECEIVE, ONCHAIN_BURN, ONCHAIN_CANCELLED: requests that a chain's transaction confirms (S0).

Only these move an asset between custody of the application and of the chain. What they wait for and how it is known:
`pending`. Pure.
"""

from __future__ import annotations

from pipeline.domain.applications.event import AppEvent, Decision, Refusal, Value, View
from pipeline.domain.assets import checks
from pipeline.domain.assets.border import arrival
from pipeline.domain.assets.chain import reconcile
from pipeline.domain.assets.draft import Draft, illegal
from pipeline.domain.assets.ownership import close_units_listing, usable, whose_units
from pipeline.domain.assets.pending import (
    RECEIVE,
    SEND,
    add_pending,
    drop_pending,
    found,
    mark_used,
    new_pending,
    waiting_units,
)
from pipeline.domain.assets.state import (
    acting,
    asset_of,
    loose,
    managed,
    treasuries,
    unlisted,
    user_at,
    whole,
)

PENDING_MAX = 1000  # requests of units that one asset waits for; as many again of users who have no other
OF_ONE_MAX = 100  # of these of one user


def onchain_send(event: AppEvent, view: View) -> Decision:
    """Out of the application's custody, to an address. Raises Refusal."""
    draft, data = Draft(event, view), event.data
    asset, units = asset_of(draft), checks.units(data)
    token = _token(asset)
    address = checks.address(data["to_address"], "data.to_address")
    if checks.chain_of(address) != checks.chain_of(token):
        raise Refusal("other_chain", "data.to_address", f"the token is on {checks.chain_of(token)}")
    if address in treasuries(draft, asset):
        raise Refusal("to_treasury", "data.to_address", f"{address} is a treasury of the application")
    if units is None:
        whole(asset)
        managed(asset)
        unlisted(asset)
        acting(draft, asset["owner_user_id"])
        user = asset["owner_user_id"]
    else:
        user = _units_ready(draft, asset, data["from_user_id"], "data.from_user_id")
        usable(asset, user, units)
        close_units_listing(draft, user)
    _wait(draft, new_pending(draft, _hash(event), user, address, units))
    return draft.decision()


def onchain_receive(event: AppEvent, view: View) -> Decision:
    """Into the application's custody; `to_user_id` owns it there. Raises Refusal."""
    draft, data = Draft(event, view), event.data
    asset, units, tx_hash = asset_of(draft), checks.units(data), _hash(event)
    _token(asset)
    to_user = draft.user(data["to_user_id"], "data.to_user_id")
    waiting = new_pending(draft, tx_hash, to_user, None, units)
    if units is None:
        if asset["pending"] is not None and asset["pending"]["mismatch"]:  # it was told, and makes way
            drop_pending(draft, event.key, asset["pending"])
            asset = draft.held(event.key)
        whole(asset)
        if asset["custody_type"] != "onchain":
            raise illegal("the asset is in custody of the application already")
        acting(draft, asset["owner_user_id"], *_senders(draft, asset, tx_hash))
    else:
        _units_ready(draft, asset, to_user, "data.to_user_id")
        _units_out(draft, asset, waiting)
    _wait(draft, waiting)
    return draft.decision()


def onchain_burn(event: AppEvent, view: View) -> Decision:
    """Burnt, when the chain has burnt the token. Raises Refusal."""
    draft, tx_hash = Draft(event, view), _hash(event)
    asset = asset_of(draft)
    token = _token(asset)
    known = draft.get("token", token)
    if asset["burnt"] and known is not None and known["burnt"] and known["tx_hash"] == tx_hash:
        _told_after(draft, token, tx_hash)
        return draft.decision()
    whole(asset)
    unlisted(asset)
    acting(draft, asset["owner_user_id"])
    if asset["contents"]:
        raise illegal("there is something in it; PACK_OPENED takes it out")
    _wait(draft, new_pending(draft, tx_hash, asset["owner_user_id"]))
    return draft.decision()


def _told_after(draft: Draft, token: str, tx_hash: str) -> None:
    """The chain was faster: the asset is burnt already, and now it is known that this was meant. Raises Refusal."""
    seen = draft.get("observed", f"{token}|{tx_hash}")
    moves: list[Value] = seen["moves"] if seen else []
    place = next((n for n, move in enumerate(moves) if move["to"] is None and move["used_by"] is None), None)
    if place is None:
        raise illegal("the asset is burnt")
    asset = draft.held(draft.event.key)
    acting(draft, asset["owner_user_id"], user_at(draft, moves[place]["from"]))
    mark_used(draft, f"{token}|{tx_hash}", place, draft.event.id)
    draft.update(draft.event.key, owner_user_id=None, difference=None)


def onchain_cancelled(event: AppEvent, view: View) -> Decision:
    """A request whose transaction will not be: it waits no more. Raises Refusal."""
    draft, tx_hash = Draft(event, view), _hash(event)
    asset = asset_of(draft)
    waiting = asset["pending_units"].get(tx_hash)
    if waiting is None and asset["pending"] is not None and asset["pending"]["tx_hash"] == tx_hash:
        waiting = asset["pending"]
    if waiting is None:
        raise illegal(f"nothing waits for {tx_hash}", "data.tx_hash")
    acting(draft, waiting["user_id"], waiting["actor"] or None, *_blocked(draft, asset, waiting))
    drop_pending(draft, event.key, waiting)
    return draft.decision()


def _blocked(draft: Draft, asset: Value, waiting: Value) -> list[str | None]:
    """Whom a request for the whole asset keeps from his own: its owner, or who has sent it in since."""
    if waiting["units"] is not None:
        return []
    came = arrival(draft, asset) if asset["custody_type"] == "onchain" else None
    return [asset["owner_user_id"], user_at(draft, came[1]["from"]) if came else None]


def _units_out(draft: Draft, asset: Value, waiting: Value) -> None:
    """As many units are out there, or on their way, or have come back in this very transaction; what others claim
    does not count. Raises Refusal."""
    out = int(asset["onchain_units"]) + waiting_units(asset, SEND)
    if out - waiting_units(asset, RECEIVE, waiting["user_id"]) >= int(waiting["units"]):
        return
    if found(draft, asset, waiting) is None:
        raise Refusal("insufficient_units", "data.units", f"{out} units are on the chain")


def _wait(draft: Draft, waiting: Value) -> None:
    """Let the request wait; what the chain has told already is done at once."""
    asset_id = draft.event.key
    if waiting["units"] is not None:
        others = draft.held(asset_id)["pending_units"]
        squat = others.get(waiting["tx_hash"])
        if squat is not None and not squat["mismatch"]:
            raise illegal(f"{waiting['tx_hash']} is waited for already", "data.tx_hash")
        own = sum(one["user_id"] == waiting["user_id"] for one in others.values())
        if own >= OF_ONE_MAX or len(others) >= (PENDING_MAX if own else 2 * PENDING_MAX):
            raise Refusal(
                "too_many",
                "data.tx_hash",
                f"{len(others)} requests wait for the chain, {own} of them {waiting['user_id']}'s",
            )
    add_pending(draft, asset_id, waiting)
    reconcile(draft, asset_id)


def _units_ready(draft: Draft, asset: Value, user: str | None, field: str) -> str:
    """Units of this asset can go to and fro, and whose. Raises Refusal."""
    loose(asset)
    if asset["fraction_count"] == 1:
        raise illegal("the asset is in one piece; FRACTIONED makes units of it", "data.units")
    if not checks.fungible(asset["token"]):
        raise illegal("its token can't be divided; units of an MPT can", "data.units")
    return whose_units(draft, user, field)


def _senders(draft: Draft, asset: Value, tx_hash: str) -> list[str | None]:
    """Who has sent the token in a transaction that is known already."""
    seen = draft.get("observed", f"{asset['token']}|{tx_hash}")
    return [user_at(draft, move["from"]) for move in seen["moves"] if move["used_by"] is None] if seen else []


def _token(asset: Value) -> str:
    if asset["token"] is None:
        raise illegal("the asset has no token on a chain")
    return str(asset["token"])


def _hash(event: AppEvent) -> str:
    return checks.hashed(event.data["tx_hash"], "data.tx_hash")
