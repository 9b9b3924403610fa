"""What chains tell of tokens and treasuries, and how an asset is held against it (S0, XRPL sync). Pure.

CHAIN_OBSERVED keeps the facts of a token by its key, whether an asset is registered with it or not, and every
transaction of it by its hash. `reconcile` makes the asset agree with these facts; it is called whenever either side
has changed, so both orders of arrival end in the same state. The chain wins on holder and burnt: in custody of the
chain the owner is the holder's user. It never wins on the beneficial owner of a managed asset: there a difference is
an alert with both sides.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pipeline.domain.applications.event import AppEvent, Decision, Value, View
from pipeline.domain.assets.border import crossed, moved_by, outside, units_at
from pipeline.domain.assets.checks import chain_of, fungible, issuer_of
from pipeline.domain.assets.draft import Draft
from pipeline.domain.assets.gas import treasury_paid
from pipeline.domain.assets.pending import complete, forget_pending
from pipeline.domain.assets.state import empty, inside, set_owner, stand_at, take_out, treasuries, user_at

MOVES_MAX: Final = 64  # of one token in one transaction
SUPPLY_ACTIONS: Final = frozenset({"issued", "changed", "destroyed"})


def new_token(token: str) -> Value:
    """A token that no chain has told of yet: its block is null."""
    return {
        "asset_id": None, "holder": None, "burnt": False, "supply": "0" if fungible(token) else "1",
        "circulating": "0" if fungible(token) else "1",
        "tx_hash": "", "moved_tx": "", "chain": chain_of(token), "block": None, "place": [-1, -1, -1],
    }  # fmt: skip


def chain_observed(event: AppEvent, view: View) -> Decision:
    """A final fact of a chain; never refused for what applications say."""
    draft = Draft(event, view)
    if event.data["kind"] == "fee":
        treasury_paid(draft)
    else:
        _token_observed(draft)
    return draft.decision()


def _token_observed(draft: Draft) -> None:
    data = draft.event.data
    token = data["token"]
    known = draft.get("token", token) or new_token(token)
    place = [data["block"], data["transaction_index"], data["change_index"]]
    if fungible(token):
        fact = _units_observed(draft, token, known)
    elif place < known["place"]:
        fact = {}  # older than what is known: a fact of the transaction alone
    else:
        fact = {"holder": data["to_address"], "burnt": data["to_address"] is None}
    if fact or fungible(token):
        fact |= {"tx_hash": data["tx_hash"], "chain": data["chain"], "block": data["block"], "place": place}
        moved = _is_move(data) and data["from_address"] != data["to_address"]  # a new URI moves nothing
        fact["moved_tx"] = data["tx_hash"] if moved else moved_by(known)
    draft.put("token", token, {**known, **fact})
    _note(draft, token, known)
    if known["asset_id"] is not None:
        reconcile(draft, known["asset_id"])


def _is_move(data: Mapping[str, Any]) -> bool:
    """Something of the token went somewhere, in a transaction that can be named."""
    return bool(data["tx_hash"]) and data["action"] not in ("issued", "changed")


def _note(draft: Draft, token: str, known: Value) -> None:
    """Keep the move by its transaction: a request that names the hash may come later. `known`: before the move."""
    data = draft.event.data
    if not _is_move(data):
        return
    id = f"{token}|{data['tx_hash']}"
    seen = draft.get("observed", id) or {"moves": [], "before": moved_by(known)}
    if len(seen["moves"]) >= MOVES_MAX:
        return
    move = {"from": data["from_address"], "to": data["to_address"], "amount": data["amount"], "used_by": None,
            "block": data["block"]}  # fmt: skip
    if fungible(token):
        after = draft.get("token", token) or known
        redeemed = int(data["amount"]) if data["to_address"] == issuer_of(token) else 0  # circulates no more
        move["whole"] = int(data["amount"]) == int(after["circulating"]) + redeemed
        if known["asset_id"] is not None:
            crossed(draft, known["asset_id"], move)
    draft.put("observed", id, {**seen, "moves": [*seen["moves"], move]})


def _units_observed(draft: Draft, token: str, known: Value) -> Value:
    """An MPT: units by address, and how many are out of the issuer's hands; its holder is who has all of these."""
    data = draft.event.data
    if data["action"] in SUPPLY_ACTIONS:
        return {"supply": data["amount"], "burnt": data["action"] == "destroyed"}
    source, target, amount = data["from_address"], data["to_address"], int(data["amount"])
    before = units_at(draft, token, source) + (units_at(draft, token, target) if target != source else 0)
    if source == target:  # a starting state: what he holds
        _set_units(draft, token, target, amount)
    else:
        _set_units(draft, token, source, units_at(draft, token, source) - amount)
        _set_units(draft, token, target, units_at(draft, token, target) + amount)
    held = {who: units_at(draft, token, who) for who in (source, target)}
    circulating = int(known["circulating"]) + sum(held.values()) - before
    all_of_it = [who for who, units in held.items() if units == circulating > 0]
    return {"circulating": str(circulating), "holder": all_of_it[0] if all_of_it else None}


def _set_units(draft: Draft, token: str, address: str | None, units: int) -> None:
    if address not in (None, issuer_of(token)):
        draft.put("token_units", f"{token}|{address}", {"units": str(units)})


def reconcile(draft: Draft, asset_id: str) -> None:
    """Make an asset agree with what is known of its token."""
    asset = draft.held(asset_id)
    token = draft.get("token", asset["token"]) if asset["token"] else None
    if token is None or token["block"] is None:
        return
    if asset["burnt"]:
        if not token["burnt"]:
            _difference(draft, asset_id, token, expected="burnt")
        return
    first = asset["onchain_status"] == "none"
    before = asset["onchain_holder"] if asset["custody_type"] == "onchain" else None
    status = "burnt" if token["burnt"] else "active"
    draft.update(asset_id, minted=True, onchain_status=status, onchain_holder=token["holder"])
    complete(draft, asset_id)
    asset = draft.held(asset_id)
    follows = asset["custody_type"] == "onchain" and not token["burnt"]
    stand_at(draft, asset_id, before, token["holder"] if follows else None)
    if asset["burnt"]:
        return
    if token["burnt"]:
        _burnt(draft, asset_id, token)
    elif follows:
        _follow(draft, asset_id, token, first)
    else:
        _check_treasury(draft, asset_id, token)


def _burnt(draft: Draft, asset_id: str, token: Value) -> None:
    """Burnt on the chain without the application's asking: burnt; a managed asset's owner still has a claim."""
    asset = draft.held(asset_id)
    forget_pending(draft, asset_id, "the token was burnt by another transaction")
    take_out(draft, asset_id)
    if asset["contents"] and asset["owner_user_id"] is None:
        draft.alert(
            "content_without_owner", f"{asset_id}:{token['tx_hash']}", "critical", asset_id=asset_id,
            content=inside(draft, asset_id), chain=_theirs(token),
        )  # fmt: skip
    empty(draft, asset_id, burnt=True, listing=None, fraction_listings={})
    if asset["custody_type"] == "onchain":
        draft.update(asset_id, owner_user_id=None)
    else:
        _difference(draft, asset_id, token, expected=treasuries(draft, asset))


def _follow(draft: Draft, asset_id: str, token: Value, first: bool) -> None:
    """In custody of the chain: the owner is whose the holder's address is."""
    asset = draft.held(asset_id)
    owner = user_at(draft, token["holder"])
    if first and asset["owner_user_id"] not in (None, owner):
        draft.alert(
            "custody_difference", f"{asset_id}:{token['tx_hash']}", "critical", asset_id=asset_id,
            application=_ours(asset, expected=asset["owner_user_id"]), chain=_theirs(token),
        )  # fmt: skip
    if asset["owner_user_id"] != owner:
        set_owner(draft, asset_id, owner)


def _check_treasury(draft: Draft, asset_id: str, token: Value) -> None:
    """In custody of the application: the token is at one of its treasuries, but for units sent to the chain."""
    asset = draft.held(asset_id)
    ours = treasuries(draft, asset)
    if fungible(asset["token"]):
        there = outside(draft, asset)
        fine = there == int(asset["onchain_units"])
        seen: dict[str, Any] = {"units_outside": str(there), "units_sent": asset["onchain_units"]}
    else:
        fine, seen = token["holder"] in ours, {}
    if fine:
        if asset["difference"] is not None:
            draft.update(asset_id, difference=None)
    else:
        _difference(draft, asset_id, token, expected=ours, **seen)


def _difference(draft: Draft, asset_id: str, token: Value, expected: Any, **seen: Any) -> None:
    """Both sides of what does not agree; told once for each transaction of the chain."""
    asset, theirs = draft.held(asset_id), {**_theirs(token), **seen}
    found = {"expected": expected, "chain": theirs}
    if asset["difference"] == found:
        return
    draft.update(asset_id, difference=found)
    draft.alert(
        "custody_difference", f"{asset_id}:{token['tx_hash']}", "critical", asset_id=asset_id,
        application=_ours(asset, expected), chain=theirs,
    )  # fmt: skip


def _ours(asset: Value, expected: Any) -> Value:
    return {
        "expected": expected,
        **{name: asset[name] for name in ("owner_user_id", "custody_type", "burnt")},
    }


def _theirs(token: Value) -> Value:
    return {name: token[name] for name in ("holder", "burnt", "tx_hash", "block")}
