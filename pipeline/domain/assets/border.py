"""Which side of the border a token is on: at the treasuries of its asset's application, or outside. Pure.

A deposit is a move from outside to a treasury. Old ones that nobody has claimed are all over the chain, so that there
was one is no proof of a claim. Of a whole token only the last one counts, and only while the token is still there. Of
units, deposits back as much as they have brought beyond what the treasuries lacked just then, each its own claim:
`unclaimed_units` of the asset is kept for those that nobody has claimed yet. What a treasury has lost is so never made
good at the cost of him who brings units in next.
"""

from __future__ import annotations

from typing import Final

from pipeline.domain.applications.event import Value
from pipeline.domain.assets.checks import issuer_of
from pipeline.domain.assets.draft import Draft
from pipeline.domain.assets.state import treasuries, user_at

STEPS_MAX: Final = 256  # back over moves between treasuries, to the one that came in


def units_at(draft: Draft, token: str, address: str | None) -> int:
    """Units of an MPT that an address holds, as far as was told."""
    found = draft.get("token_units", f"{token}|{address}")
    return int(found["units"]) if found else 0


def circulating(draft: Draft, asset: Value) -> int:
    """Units of an asset's MPT that are out of the issuer's hands."""
    token = draft.get("token", asset["token"])
    return int(token["circulating"]) if token else 0


def outside(draft: Draft, asset: Value) -> int:
    """Units of an asset's MPT that circulate and are at no treasury."""
    issuer = issuer_of(asset["token"])  # what stands against it is nobody's holding
    ours = [one for one in treasuries(draft, asset) if one != issuer]
    return circulating(draft, asset) - sum(units_at(draft, asset["token"], one) for one in ours)


def arrival(draft: Draft, asset: Value) -> tuple[str, Value] | None:
    """The move by which a token that is at a treasury last came from outside, with its transaction; None: it left
    again, or nobody has told."""
    ours, token = treasuries(draft, asset), draft.get("token", asset["token"])
    tx_hash = moved_by(token) if token else ""
    for _ in range(STEPS_MAX):
        seen = draft.get("observed", f"{asset['token']}|{tx_hash}") if tx_hash else None
        if seen is None:
            return None
        for move in reversed(seen["moves"]):
            came, left = move["to"] in ours, move["from"] in ours
            if came != left:
                return (tx_hash, move) if came else None
        tx_hash = seen.get("before", "")
    return None


def moved_by(token: Value) -> str:
    """The transaction that moved a token last; empty if none was told."""
    return str(token.get("moved_tx", token["tx_hash"]))  # a former release kept the last one that touched it


def backing(draft: Draft, asset: Value, move: Value) -> str | None:
    """How many units of a move, which the token's state has in it, back a claim; None: no units were out then."""
    if asset["burnt"] or asset["fraction_count"] == 1:
        return None
    ours = treasuries(draft, asset)
    inward = move["to"] in ours and move["from"] not in (*ours, issuer_of(asset["token"]))
    if not inward or user_at(draft, move["from"]) is None:
        return "0"  # brought by nobody who is known: it makes good what is missing
    return str(max(0, min(int(move["amount"]), free(draft, asset))))


def free(draft: Draft, asset: Value) -> int:
    """Units at the treasuries beyond what users hold there and what is kept for claims; below 0: they are missing."""
    return int(asset["onchain_units"]) - outside(draft, asset) - unclaimed(asset)


def unclaimed(asset: Value) -> int:
    """Units that were brought in and wait for their claims."""
    return int(asset.get("unclaimed_units", "0"))  # a former release counted none
