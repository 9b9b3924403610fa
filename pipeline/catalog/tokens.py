"""Event types of tokens.events.v1 (S3): operational, economic, risk and collections, governance."""

from typing import Final

from pipeline.catalog.tokens_governance import GOVERNANCE_ROWS
from pipeline.catalog.tokens_operational import OPERATIONAL_ROWS
from pipeline.domain.applications.entry import new_id
from pipeline.domain.applications.event import AppTopic, AppType, table
from pipeline.domain.tokens import collections as due
from pipeline.domain.tokens import economic_accounts as holders
from pipeline.domain.tokens import economic_credit as credit
from pipeline.domain.tokens import economic_positions as positions
from pipeline.domain.tokens import economic_rights as rights
from pipeline.domain.tokens import risk
from pipeline.domain.tokens.impersonal import IMPERSONAL

ECONOMIC_ROWS: Final[tuple[AppType, ...]] = (
    AppType(
        "ACCOUNT_OPENED",
        "account_opened",
        holders.account_opened,
        holders.check_account_opened,
        service=True,
        entry=new_id("account_id"),
    ),
    AppType(
        "ACCOUNT_STATUS_CHANGED",
        "account_status_changed",
        holders.account_status_changed,
        holders.check_status_changed,
        service=True,
    ),
    AppType(
        "TOKEN_TYPE_REGISTERED",
        "token_type_registered",
        holders.token_type_registered,
        holders.check_type_registered,
        service=True,
    ),
    AppType("KYB_RECORDED", "kyb_recorded", holders.kyb_recorded, holders.check_kyb_recorded, service=True),
    AppType("CREDIT_ISSUED", "credit_issued", credit.credit_issued, credit.check_amount, service=True),
    AppType("CREDIT_REDEEMED", "credit_redeemed", credit.credit_redeemed, credit.check_redeemed),
    AppType(
        "PURCHASE_ORDER_CREATED",
        "purchase_order_created",
        positions.purchase_order_created,
        positions.check_order_created,
    ),
    AppType(
        "PURCHASE_ORDER_SHARE_ISSUED",
        "purchase_order_share_issued",
        positions.share_issued,
        credit.check_amount,
        service=True,
    ),
    AppType(
        "PURCHASE_ORDER_SHARE_REDEEMED",
        "purchase_order_share_redeemed",
        positions.share_redeemed,
        credit.check_amount,
    ),
    AppType("ESCROW_LOCKED", "escrow_locked", positions.escrow_locked, positions.check_locked),
    AppType(
        "ESCROW_RELEASED",
        "escrow_released",
        positions.escrow_released,
        positions.check_released,
        service=True,
    ),
    AppType("TOKEN_TRANSFERRED", "token_transferred", positions.token_transferred, credit.check_transferred),
    AppType(
        "REPUTATION_UPDATED",
        "reputation_updated",
        rights.reputation_updated,
        rights.check_reputation,
        service=True,
    ),
    AppType(
        "GOVERNANCE_RIGHT_GRANTED",
        "governance_right_granted",
        rights.right_granted,
        rights.check_granted,
        service=True,
    ),
    AppType(
        "GOVERNANCE_RIGHT_REVOKED",
        "governance_right_revoked",
        rights.right_revoked,
        rights.check_revoked,
        service=True,
    ),
    AppType("VOTE_CAST", "vote_cast", rights.vote_cast, rights.check_vote),
    AppType("FEE_CHARGED", "fee_charged", credit.fee_charged, credit.check_fee, service=True),
    AppType(
        "PAYMENT_RECEIVED", "payment_received", credit.payment_received, credit.check_payment, service=True
    ),
    AppType(
        "BALANCE_ADJUSTED", "balance_adjusted", credit.balance_adjusted, credit.check_adjusted, service=True
    ),
)
RISK_ROWS: Final[tuple[AppType, ...]] = (
    AppType(
        "RISK_ASSESSMENT_REQUESTED",
        "risk_assessment_requested",
        risk.assessment_requested,
        risk.check_requested,
    ),
    AppType(
        "RISK_SCORE_CALCULATED",
        "risk_score_calculated",
        risk.score_calculated,
        risk.check_score,
        service=True,
    ),
    AppType(
        "CREDIT_LIMIT_GRANTED", "credit_limit_granted", risk.limit_granted, risk.check_limit, service=True
    ),
    AppType(
        "CREDIT_LIMIT_REDUCED", "credit_limit_reduced", risk.limit_reduced, risk.check_limit, service=True
    ),
    AppType(
        "PAYMENT_SCHEDULE_CREATED",
        "payment_schedule_created",
        due.schedule_created,
        due.check_schedule_created,
        service=True,
    ),
    AppType("PAYMENT_DUE", "payment_due", due.step, service=True),
    AppType("PAYMENT_LATE", "payment_late", due.step, service=True),
    AppType("COLLECTION_NOTICE_SENT", "collection_notice_sent", due.step, service=True),
    AppType("DEFAULT_RECORDED", "default_recorded", due.step, service=True),
    AppType("POSITION_BLOCKED", "position_blocked", risk.position_blocked, risk.check_reason, service=True),
    AppType(
        "POSITION_UNBLOCKED", "position_unblocked", risk.position_unblocked, risk.check_reason, service=True
    ),
    AppType(
        "PROVISION_CALCULATED",
        "provision_calculated",
        risk.provision_calculated,
        risk.check_provision,
        service=True,
    ),
)
"""Risk and collections; the clock tells PAYMENT_DUE and what follows it, as a schedule says."""

TOKENS: Final = AppTopic(
    "tokens.events.v1",
    "tokens",
    "account_id",
    table(map(IMPERSONAL, (*OPERATIONAL_ROWS, *ECONOMIC_ROWS, *RISK_ROWS, *GOVERNANCE_ROWS))),
)
