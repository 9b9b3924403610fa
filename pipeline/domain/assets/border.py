"""Which side of the border a token is on: at the treasuries of its asset's application, or outside. Pure.

A deposit is a move from outside to a treasury. Old ones that nobody has claimed are all over the chain, so that there
was one is no proof of a claim. Of a whole token only the last one counts, and only while the token is still there. Of
units, an account is kept of each address outside: what it has brought in and what it was sent, as the chain tells it,
less and plus what requests have done of that. What an address is owed so is never more than what it brought and did
not get back, in whatever order chain and requests are told; an asset begins with nothing owed when it is FRACTIONED.
"""

from __future__ import annotations

from typing import Final

from pipeline.domain.applications.event import Value
from pipeline.domain.assets.checks import fungible, issuer_of
from pipeline.domain.assets.draft import Draft
from pipeline.domain.assets.state import treasuries

STEPS_MAX: Final = 256  # back over moves between treasuries, to the one that came in


def units_at(draft: Draft, token: str, address: str | None) -> int:
    """Units of an MPT that an address holds, as far as was told."""
    found = draft.get("token_units", f"{token}|{address}")
    return int(found["units"]) if found else 0


def outside(draft: Draft, asset: Value) -> int:
    """Units of an asset's MPT that circulate and are at no treasury."""
    token, issuer = draft.get("token", asset["token"]), issuer_of(asset["token"])
    ours = [
        one for one in treasuries(draft, asset) if one != issuer
    ]  # what stands against it is nobody's holding
    circulating = int(token["circulating"]) if token else 0
    return circulating - sum(units_at(draft, asset["token"], one) for one in ours)


def free(draft: Draft, asset: Value) -> int:
    """Units at the treasuries beyond what users hold there; below 0: they are missing."""
    return int(asset["onchain_units"]) - outside(draft, asset)


def arrival(draft: Draft, asset: Value) -> tuple[str, Value] | None:
    """The move by which a token that is at a treasury last came from outside, all of it, with its transaction; None: it
    left again, or nobody has told."""
    ours, token = treasuries(draft, asset), draft.get("token", asset["token"])
    tx_hash = moved_by(token) if token else ""
    for _ in range(STEPS_MAX):
        seen = draft.get("observed", f"{asset['token']}|{tx_hash}") if tx_hash else None
        if seen is None:
            return None
        for move in reversed(seen["moves"]):
            came, left = move["to"] in ours, move["from"] in ours
            if left and not came:
                return None
            if came and not left and (move.get("whole") or not fungible(asset["token"])):
                return tx_hash, move
        tx_hash = seen.get("before", "")
    return None


def moved_by(token: Value) -> str:
    """The transaction that moved a token last; empty if none was told."""
    return str(token.get("moved_tx", token["tx_hash"]))  # a former release kept the last one that touched it


def owed(draft: Draft, asset_id: str, address: str) -> int:
    """Units of a fractioned asset that an address has brought in and got neither credited nor back."""
    found = draft.get("owed", _account(draft, asset_id, address))
    return int(found["units"]) if found else 0


def owe(draft: Draft, asset_id: str, address: str, units: int) -> None:
    """So many more (or fewer) are owed to an address."""
    after = {"units": str(owed(draft, asset_id, address) + units)}
    draft.put("owed", _account(draft, asset_id, address), after)


def _account(draft: Draft, asset_id: str, address: str) -> str:
    split = draft.held(asset_id).get("fractioned_event_id") or ""  # a former release did not note it
    return f"{asset_id}|{split}|{address}"


def crossed(draft: Draft, asset_id: str, move: Value) -> None:
    """A move of units as the chain tells it: to the account of whoever is outside."""
    asset = draft.held(asset_id)
    if asset["burnt"] or asset["fraction_count"] == 1:
        return
    ours, issuer = treasuries(draft, asset), issuer_of(asset["token"])
    came, left = move["to"] in ours, move["from"] in ours
    if came and not left and move["from"] not in (None, issuer):
        owe(draft, asset_id, move["from"], int(move["amount"]))
    if left and not came and move["to"] not in (None, issuer):
        owe(draft, asset_id, move["to"], -int(move["amount"]))
