"""What an applied event of an asset adds to the figures of its day (S0's analytics), told with its outcome.

The outcome is one message per event, told once it is known to be applied: sums over outcomes count nothing refused and
nothing twice. Pure; nothing here fails for what the event's check and rule have let pass.
"""

from __future__ import annotations

from decimal import Context, Decimal
from typing import Final

from pipeline.domain.applications.event import AppEvent, Figures, View
from pipeline.domain.assets import checks

GAS: Final = ("INTERNAL_GAS_CHARGE", "INTERNAL_GAS_COVERAGE")
_OF_GAS: Final = (
    "currency", "gas_required", "gas_paid_by_user", "gas_paid_by_treasury", "payer_user_id", "treasury_tx_hash",
    "related_transaction_id",
)  # fmt: skip
_OF_NO_ASSET: Final = ("USER_REGISTERED", "USER_ADDRESSES_CHANGED", "APP_REGISTERED", "CHAIN_OBSERVED")
_EXACT: Final = Context(prec=76)  # a price has 48 digits, units have 13


def of_applied(event: AppEvent, view: View) -> Figures:
    """The event's figures, under its asset's application (which never changes); `view`: the states after it."""
    asset = None if event.type in _OF_NO_ASSET else view.get("asset", event.key)
    app = event.app_id if asset is None else asset["app_id"]
    of_event = Figures(app_id=app, user_id=event.user_id or None)
    if event.type == "SOLD":
        return of_event._replace(currency=event.data["currency"], volume=_paid(event))
    if event.type in GAS:
        told = {name: event.data.get(name) or "" for name in _OF_GAS}
        return of_event._replace(**told)
    return of_event


def _paid(event: AppEvent) -> str:
    """Price × units, for a price is that of a unit; the whole asset is one."""
    units = checks.units(event.data) or 1
    return f"{_EXACT.multiply(Decimal(checks.price(event.data)), Decimal(units)):f}"
