"""Token types: five that S3 names are built in, one for contributions, others are registered by a service.

What a type is worth decides what it is, not its name (S3, CVM): a financial type (a receivable, a share of a pool,
a yield) or one that is marked as regulated stays out until there is a regulated structure for it.

Transferability: `non_transferable` is issued and redeemed, and never moves between accounts; `restricted` moves
between accounts of one association, or between accounts whose owners are both of the type's `allowed_owner_types`;
`internal` moves between any two accounts of the ledger.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from pipeline.domain.applications.event import Value, View, one
from pipeline.domain.flows.events import Refusal

CREDIT: Final = "CREDIT"
PO_SHARE: Final = "PO_SHARE"
ESCROW: Final = "ESCROW"
REPUTATION: Final = "REPUTATION"
GOVERNANCE: Final = "GOVERNANCE"
CONTRIB: Final = "CONTRIB"

NON_TRANSFERABLE: Final = "non_transferable"
RESTRICTED: Final = "restricted"
INTERNAL: Final = "internal"
TRANSFERABILITIES: Final = (NON_TRANSFERABLE, RESTRICTED, INTERNAL)
OWNER_TYPES: Final = ("association", "member", "supplier", "infra_company")
SUBSTANCES: Final = (
    "prepaid",
    "access",
    "merit",
    "governance",
    "receivable",
    "pool",
    "yield",
    "equity",
    "debt",
)
FINANCIAL: Final = frozenset({"receivable", "pool", "yield", "equity", "debt"})
_FINANCIAL_WORDS: Final = FINANCIAL | frozenset(
    {
        "receivables",
        "pools",
        "yields",
        "dividend",
        "dividends",
        "interest",
        "bond",
        "bonds",
        "security",
        "securities",
    }
)
_WORD: Final = re.compile(r"[a-z]+")


def _built_in(name: str, transferability: str, visible_label: str) -> Value:
    return {
        "name": name, "transferability": transferability, "visible_label": visible_label, "regulated_flag": False,
        "allowed_owner_types": [], "built_in": True,
    }  # fmt: skip


BUILT_IN: Final[Mapping[str, Value]] = {
    CREDIT: _built_in("Internal credit", INTERNAL, "Credit"),
    PO_SHARE: _built_in("Share of a purchase order", RESTRICTED, "Shares of an order"),
    ESCROW: _built_in("Guarantee given", NON_TRANSFERABLE, "Guarantee"),
    REPUTATION: _built_in("Reputation", NON_TRANSFERABLE, "Reputation"),
    GOVERNANCE: _built_in("Voting weight", NON_TRANSFERABLE, "Votes"),
    CONTRIB: _built_in("Contribution", NON_TRANSFERABLE, "Contribution"),
}
"""Token types that are there without being registered."""


def token_type(view: View, id: str, field: str = "data.token_type") -> Value:
    """A token type. Raises Refusal (unknown_token_type)."""
    built_in = BUILT_IN.get(id)
    return built_in if built_in is not None else one(view, "token_type", id, field)


def free_type(view: View, id: str, field: str = "data.token_type") -> Value:
    """CREDIT or a registered type: those whose units are not bound to an order, a right or a lock. Raises Refusal."""
    found = token_type(view, id, field)
    if found["built_in"] and id != CREDIT:
        raise Refusal("wrong_token_type", field, f"units of {id} come and go by events of their own only")
    return found


def may_move(kind: Value, id: str, giver: Value, getter: Value, field: str = "data.token_type") -> None:
    """Whether units of a type may go from one account to another. Raises Refusal (not_transferable)."""
    how = kind["transferability"]
    if how == INTERNAL:
        return
    if how == NON_TRANSFERABLE:
        raise Refusal("not_transferable", field, f"{id} never moves between accounts")
    home = giver["association_id"]
    if home is not None and home == getter["association_id"]:
        return
    if {giver["owner_type"], getter["owner_type"]} <= set(kind["allowed_owner_types"]):
        return
    raise Refusal(
        "not_transferable", field, f"{id} moves within one association, or between owners it allows"
    )


def spendable(kind: Value, id: str, field: str = "data.token_type") -> None:
    """Whether units of a type may be locked or pay a fee. Raises Refusal (not_transferable)."""
    if kind["transferability"] == NON_TRANSFERABLE:
        raise Refusal("not_transferable", field, f"{id} is not transferable: it is issued and redeemed only")


def refuse_financial(data: Mapping[str, Any]) -> None:
    """S3: no financial type until a regulated structure exists. Raises Refusal (regulated_structure_missing)."""
    if data["regulated_flag"]:
        raise _financial("regulated_flag", "the type is marked as regulated")
    if data["substance"] in FINANCIAL:
        raise _financial("substance", f"a {data['substance']} is a financial type")
    for field in ("token_type_id", "name", "visible_label"):
        found = _financial_words(_WORD.findall(data[field].lower()))
        if found:
            raise _financial(field, f"{found[0]!r} names a financial type")


def _financial_words(words: Iterable[str]) -> list[str]:
    return [word for word in words if word in _FINANCIAL_WORDS]


def _financial(field: str, why: str) -> Refusal:
    return Refusal(
        "regulated_structure_missing",
        f"data.{field}",
        f"{why}; it stays blocked until a regulated structure exists",
    )
