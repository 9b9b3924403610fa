"""Moves between custody of the application and of the chain, which wait for the chain's word (S0, ONCHAIN_*). Pure.

A request names the transaction that does it. It is done when that transaction is known to have moved the token the
right way, whichever comes first: the request or the chain; and the token is still where it brought it. A transaction
that did something else is an alert; the request then stays until it is done after all or cancelled. Units of a
fractioned asset wait each for themselves; they stay their owner's, but he can't use them. Nobody is given units that
the treasuries do not hold, or hold for others: he waits.
"""

from __future__ import annotations

from pipeline.domain.account import TransferCode
from pipeline.domain.applications.event import Value
from pipeline.domain.assets.books import chain_units, user_units
from pipeline.domain.assets.border import arrival, free, outside, owe, owed
from pipeline.domain.assets.checks import fungible, issuer_of
from pipeline.domain.assets.draft import Draft
from pipeline.domain.assets.state import set_owner, treasuries, user_at

SEND, RECEIVE, BURN = "ONCHAIN_SEND", "ONCHAIN_RECEIVE", "ONCHAIN_BURN"


def new_pending(
    draft: Draft, tx_hash: str, user_id: str | None, address: str | None = None, units: int | None = None
) -> Value:
    """A request that waits. `user_id`: whose units leave, or whose it becomes."""
    return {
        "type": draft.event.type, "tx_hash": tx_hash, "address": address, "user_id": user_id,
        "actor": draft.event.user_id, "units": None if units is None else str(units), "event_id": draft.event.id,
        "mismatch": False,
    }  # fmt: skip


def locked(asset: Value, user: str) -> int:
    """Units of a user that are on their way to the chain."""
    return waiting_units(asset, SEND, user)


def waiting_units(asset: Value, type: str, user: str | None = None) -> int:
    """Units that wait in requests of a type, of one user's or of all."""
    waiting = asset["pending_units"].values()
    return sum(int(one["units"]) for one in waiting if one["type"] == type and user in (None, one["user_id"]))


def complete(draft: Draft, asset_id: str) -> None:
    """Do what waits for a transaction that is known by now. What goes out comes first, for it is what may come back;
    nothing that comes in lets anything else be done."""
    asset = draft.held(asset_id)
    requests = [one for one in (asset["pending"], *asset["pending_units"].values()) if one is not None]
    for waiting in sorted(requests, key=lambda one: one["type"] != SEND):
        asset = draft.held(asset_id)
        seen = draft.get("observed", f"{asset['token']}|{waiting['tx_hash']}")
        if seen is None:
            continue
        place = found(draft, asset, waiting)
        if place is None:
            _mismatch(draft, asset_id, waiting, seen["moves"])
        elif _covered(draft, asset_id, waiting, seen["moves"][place]):
            _use(draft, asset_id, waiting, place)
            _done(draft, asset_id, waiting)


def found(draft: Draft, asset: Value, waiting: Value) -> int | None:
    """Which of its transaction's moves is the one that was asked for; None: none of them, or nobody has told."""
    seen = draft.get("observed", f"{asset['token']}|{waiting['tx_hash']}")
    for place, move in enumerate(seen["moves"] if seen else ()):
        if move["used_by"] is None and _is_it(draft, asset, waiting, move):
            return place
    return None


def _is_it(draft: Draft, asset: Value, waiting: Value, move: Value) -> bool:
    ours = treasuries(draft, asset)
    if waiting["type"] == BURN:
        return move["to"] is None
    if waiting["type"] == RECEIVE:
        mine = waiting["actor"] in ("", user_at(draft, move["from"]))
        if not mine or move["to"] not in ours or move["from"] in ours:
            return False
    elif move["to"] != waiting["address"]:
        return False
    if waiting["units"] is None:
        return _whole_is_it(draft, asset, waiting, move)
    if move["amount"] != waiting["units"]:
        return False
    return waiting["type"] == RECEIVE or move["from"] in (*ours, issuer_of(asset["token"]))


def _whole_is_it(draft: Draft, asset: Value, waiting: Value, move: Value) -> bool:
    """All of the token was moved, and is still on the side of the border to which the move brought it."""
    received = waiting["type"] == RECEIVE
    if fungible(asset["token"]):
        if not move.get("whole") or received != (outside(draft, asset) == 0):
            return False
    elif (asset["onchain_holder"] in treasuries(draft, asset)) != received:
        return False
    return not received or arrival(draft, asset) == (waiting["tx_hash"], move)


def _covered(draft: Draft, asset_id: str, waiting: Value, move: Value) -> bool:
    """The treasuries hold what is asked for beyond what is others', and its sender is owed it; a service answers for
    whom it names."""
    if waiting["type"] != RECEIVE or waiting["units"] is None:
        return True
    units = int(waiting["units"])
    due = waiting["actor"] == "" or owed(draft, asset_id, move["from"]) >= units
    return due and free(draft, draft.held(asset_id)) >= units


def _use(draft: Draft, asset_id: str, waiting: Value, place: int) -> None:
    """A move does one request, which the account of who is outside then has in it."""
    asset = draft.held(asset_id)
    move = mark_used(draft, f"{asset['token']}|{waiting['tx_hash']}", place, waiting["event_id"])
    if waiting["units"] is not None:
        if waiting["type"] == RECEIVE:
            credited = min(int(waiting["units"]), max(0, owed(draft, asset_id, move["from"])))
            owe(draft, asset_id, move["from"], -credited)
        elif move["from"] in treasuries(draft, asset):
            owe(draft, asset_id, move["to"], int(waiting["units"]))
    _keep(draft, asset_id, waiting, None)


def mark_used(draft: Draft, observed: str, place: int, event_id: str) -> Value:
    """A move of an observed transaction serves no other request any more; the move."""
    seen = draft.get("observed", observed) or {"moves": []}
    moves = list(seen["moves"])
    moves[place] = {**moves[place], "used_by": event_id}
    draft.put("observed", observed, {**seen, "moves": moves})
    return dict(moves[place])


def _done(draft: Draft, asset_id: str, waiting: Value) -> None:
    if waiting["units"] is not None:
        _units_done(draft, asset_id, waiting)
    elif waiting["type"] == SEND:
        draft.update(asset_id, custody_type="onchain", difference=None)
    elif waiting["type"] == RECEIVE:
        draft.update(asset_id, custody_type="managed", difference=None)
        set_owner(draft, asset_id, waiting["user_id"])
    else:
        draft.update(asset_id, burnt=True, owner_user_id=None, listing=None, difference=None)


def _units_done(draft: Draft, asset_id: str, waiting: Value) -> None:
    asset = draft.held(asset_id)
    user, units = waiting["user_id"], int(waiting["units"])
    user_ref, chain_ref = user_units(asset_id, user), chain_units(asset_id, asset["token"])
    if waiting["type"] == SEND:
        draft.move(user_ref, chain_ref, units, TransferCode.WITHDRAWAL)
        units = -units
    else:
        draft.move(chain_ref, user_ref, units, TransferCode.DEPOSIT)
    outside = int(asset["onchain_units"]) - units
    draft.update(
        asset_id, holdings=moved(asset["holdings"], user, units), onchain_units=str(outside),
        custody_type="hybrid" if outside else "managed",
    )  # fmt: skip


def moved(holdings: Value, user: str, units: int) -> Value:
    """Holdings with so many units more (or fewer) of one user; who has none is not there."""
    after = {**holdings, user: str(int(holdings.get(user, "0")) + units)}
    return {who: held for who, held in after.items() if held != "0"}


def _mismatch(draft: Draft, asset_id: str, waiting: Value, moves: list[Value]) -> None:
    """The transaction did something else: both sides, once."""
    if waiting["mismatch"]:
        return
    _keep(draft, asset_id, waiting, {**waiting, "mismatch": True})
    draft.alert(
        "onchain_mismatch", f"{asset_id}:{waiting['event_id']}", "critical", asset_id=asset_id,
        asked=waiting, chain=moves,
    )  # fmt: skip


def _keep(draft: Draft, asset_id: str, waiting: Value, after: Value | None) -> None:
    """Put a waiting request in place, or take it away."""
    if waiting["units"] is None:
        draft.update(asset_id, pending=after)
        return
    rest = {tx: one for tx, one in draft.held(asset_id)["pending_units"].items() if tx != waiting["tx_hash"]}
    draft.update(asset_id, pending_units=rest if after is None else {**rest, waiting["tx_hash"]: after})


def add_pending(draft: Draft, asset_id: str, waiting: Value) -> None:
    """Let a request wait."""
    _keep(draft, asset_id, waiting, waiting)


def drop_pending(draft: Draft, asset_id: str, waiting: Value) -> None:
    """A request waits no more."""
    _keep(draft, asset_id, waiting, None)


def forget_pending(draft: Draft, asset_id: str, reason: str) -> None:
    """What waited for the chain will not be; each is told."""
    asset = draft.held(asset_id)
    for waiting in [one for one in (asset["pending"], *asset["pending_units"].values()) if one is not None]:
        _mismatch(draft, asset_id, waiting, [{"to": None, "reason": reason}])
    draft.update(asset_id, pending=None, pending_units={})
