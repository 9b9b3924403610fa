"""Gas in managed custody (S0, gas_ledger): what a transaction needed, who paid which part, and the chain's word for it.

Amounts are whole smallest units of the currency. A coverage names the transaction that the treasury has paid; it is
confirmed when the chain has told of that transaction's fee, in either order of arrival. A payer that is no treasury of
the application, another amount, or another coin than the chain's, is an alert with both sides. Pure.
"""

from __future__ import annotations

from typing import Final

from pipeline.domain.account import TransferCode
from pipeline.domain.applications.event import AppEvent, Decision, Refusal, Value, View, one
from pipeline.domain.assets import checks
from pipeline.domain.assets.books import gas_of_treasury, gas_of_user, gas_pool
from pipeline.domain.assets.draft import Draft
from pipeline.domain.assets.state import asset_of, treasuries

# Ethereum, its large rollups, its test networks
ETHER: Final = ("1", "10", "8453", "42161", "11155111", "17000")
COINS: Final = {
    "eip155:56": "BNB", "eip155:100": "XDAI", "eip155:137": "POL", "eip155:43114": "AVAX",
    **{f"eip155:{id}": "ETH" for id in ETHER},
}  # fmt: skip
"""Chain id → native coin, of EVM chains that anybody knows."""


def coin_of(chain: str) -> str | None:
    """What a chain's fees are paid in: XRP on every network of the XRP Ledger; None where that is not known."""
    return "XRP" if chain.startswith("xrpl:") else COINS.get(chain)


def gas_charge(event: AppEvent, view: View) -> Decision:
    """Who paid which part of a transaction's gas. Raises Refusal."""
    draft = Draft(event, view)
    _paid(draft, asset_of(draft))
    return draft.decision()


def gas_coverage(event: AppEvent, view: View) -> Decision:
    """The same, with the treasury's transaction on the chain. Raises Refusal."""
    draft, data = Draft(event, view), event.data
    asset = asset_of(draft)
    _paid(draft, asset)
    tx_hash = checks.hashed(data["treasury_tx_hash"], "data.treasury_tx_hash")
    if draft.get("coverage", tx_hash) is not None:
        raise Refusal("already_covered", "data.treasury_tx_hash", f"{tx_hash} stands for another coverage")
    covered = {
        "asset_id": event.key, "event_id": event.id, "currency": data["currency"],
        "amount": data["gas_paid_by_treasury"], "status": "pending", "payer": None, "fee": None,
    }  # fmt: skip
    _confirm(draft, tx_hash, covered)
    return draft.decision()


def _paid(draft: Draft, asset: Value) -> None:
    event, data, currency = draft.event, draft.event.data, checks.currency(draft.event.data)
    payer = draft.user(data["payer_user_id"], "data.payer_user_id")
    related = data["related_transaction_id"]
    if related is not None:
        named = one(draft, "transaction", related, "data.related_transaction_id")
        if named["asset_id"] != event.key:
            raise Refusal(
                "other_asset", "data.related_transaction_id", f"{related} is not of asset {event.key}"
            )
    app = asset["app_id"]
    parts = (
        (gas_of_user(currency, payer), int(data["gas_paid_by_user"])),
        (gas_of_treasury(currency, app), int(data["gas_paid_by_treasury"])),
    )
    for account, amount in parts:
        if amount:
            draft.move(account, gas_pool(currency, app), amount, TransferCode.FEE)


def treasury_paid(draft: Draft) -> None:
    """A chain tells that a treasury has paid a fee: kept by the transaction's hash."""
    data = draft.event.data
    paid = {
        "payer": data["from_address"],
        "amount": data["amount"],
        "chain": data["chain"],
        "block": data["block"],
    }
    draft.put("treasury_tx", data["tx_hash"], paid)
    covered = draft.get("coverage", data["tx_hash"])
    if covered is not None and covered["status"] == "pending":
        _confirm(draft, data["tx_hash"], covered)


def _confirm(draft: Draft, tx_hash: str, covered: Value) -> None:
    paid = draft.get("treasury_tx", tx_hash)
    if paid is None:
        draft.put("coverage", tx_hash, covered)
        return
    ours = treasuries(draft, draft.held(covered["asset_id"]))
    coin = coin_of(paid["chain"]) or covered["currency"]
    fine = paid["payer"] in ours and (paid["amount"], coin) == (covered["amount"], covered["currency"])
    status = "confirmed" if fine else "mismatch"
    draft.put(
        "coverage", tx_hash, {**covered, "status": status, "payer": paid["payer"], "fee": paid["amount"]}
    )
    if not fine:
        draft.alert(
            "treasury_tx_mismatch", tx_hash, "critical", asset_id=covered["asset_id"],
            application={"treasuries": ours, **{name: covered[name] for name in ("amount", "currency", "event_id")}},
            chain={**paid, "currency": coin},
        )  # fmt: skip
