"""Event types of anchors.events.v1 (S4)."""

from typing import Final

from pipeline.domain.anchors import authorization, escrow, parties, payments
from pipeline.domain.anchors.impersonal import wordless
from pipeline.domain.anchors.parties import STATUS_RULES, check_account, check_key, check_money
from pipeline.domain.applications.entry import new_id
from pipeline.domain.applications.event import AppTopic, AppType, table
from pipeline.domain.positions.impersonal import impersonal

NEW_ID: Final = new_id(parties.KEY)
ROWS: Final = (
    AppType("ACCOUNT_OPENED", "account_opened", parties.account_opened, check_account),
    AppType("MERCHANT_REGISTERED", "merchant_registered", parties.merchant_registered, parties.check_merchant, True),
    AppType("MERCHANT_REVOKED", "merchant_revoked", parties.merchant_revoked, check_key, True),
    AppType("ATTESTOR_REGISTERED", "attestor_registered", parties.attestor_registered, parties.check_attestor, True),
    AppType("ATTESTOR_REVOKED", "attestor_revoked", parties.attestor_revoked, check_key, True),
    AppType("AUTHORIZED", "authorized", authorization.authorized, authorization.check_authorized, entry=NEW_ID),
    AppType("CLAIMED", "claimed", authorization.claimed, check_key),
    AppType("FULFILLED", "fulfilled", authorization.fulfilled, authorization.check_fulfilled),
    AppType("AUTHORIZATION_EXPIRED", "authorization_expired", authorization.expired, check_key, True),
    AppType("DEPOSITED", "deposited", payments.deposited, check_money, True),
    AppType("WITHDRAWN", "withdrawn", payments.withdrawn, check_money),
    AppType("PAID", "paid", payments.paid, payments.check_paid),
    AppType("REFUNDED", "refunded", payments.refunded, payments.check_reference),
    AppType("FEE_CHARGED", "fee_charged", payments.fee_charged, check_money, True),
    AppType("ESCROW_LOCKED", "escrow_locked", escrow.locked, escrow.check_locked),
    AppType("ESCROW_RELEASED", "escrow_released", escrow.released, escrow.check_released),
    AppType("ESCROW_VOIDED", "escrow_voided", escrow.voided, check_key),
    AppType("ESCROW_LAPSED", "escrow_lapsed", escrow.lapsed, check_key, True),
    AppType("SETTLED", "settled", payments.settled, payments.check_settled, True),
    AppType("SETTLEMENT_REVERSED", "settlement_reversed", payments.settlement_reversed, payments.check_reference, True),
    AppType("ACCOUNT_FROZEN", "account_frozen", STATUS_RULES["ACCOUNT_FROZEN"], check_account, True),
    AppType("ACCOUNT_THAWED", "account_thawed", STATUS_RULES["ACCOUNT_THAWED"], check_account, True),
    AppType("ACCOUNT_CLOSED", "account_closed", STATUS_RULES["ACCOUNT_CLOSED"], check_account, True),
)  # fmt: skip

ANCHORS: Final = AppTopic(
    "anchors.events.v1", "anchors", parties.KEY, table(map(wordless, map(impersonal(parties.KEY), ROWS)))
)
