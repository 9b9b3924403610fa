"""One rule per flow: (event, what the books say) → a chain of transfers, or a Refusal.

A rule asked again about an event that stands gives the chain that stands: that is how a repeated event is
told from another one under the same name. What only the books can judge at the moment of posting (balances,
accounts that are missing or closed) is left to them: S4's flags and TigerBeetle's codes decide, no race can.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pipeline.domain.account import LEDGER_IDS, AccountCode, AccountRef, TransferCode
from pipeline.domain.flows.accounts import ANCHOR_ASSET, OBLIGATION, account, anchor_of_ledger, control, ident
from pipeline.domain.flows.events import FlowEvent, Kind, Party, Refusal, check, phase_of
from pipeline.domain.flows.plan import (
    CLOSING,
    CLOSING_CREDIT,
    CLOSING_DEBIT,
    PENDING,
    POST,
    VOID,
    Chain,
    Facts,
    Plan,
    TransferRow,
    mark_id,
    name_mark,
)
from pipeline.domain.position import Phase


def plan(event: FlowEvent, facts: Facts) -> Plan:
    """What an event asks of the books. Raises Refusal, and Need where `facts` must be filled first."""
    check(event)
    if event.kind == Kind.FULFIL and not event.attested:
        raise Refusal("not_attested", "attested", "nobody has verified the signature of this proof")
    return RULES[event.kind](event, facts)


def _of(event: FlowEvent, party: Party | None) -> AccountRef:
    assert party is not None  # `check` has refused it
    return account(event.asset, party.code, party.owner)


def _treasury(asset: str) -> AccountRef:
    return account(asset, AccountCode.TREASURY)


def _amount(event: FlowEvent) -> int:
    assert event.amount is not None
    return event.amount


def _same_amount(event: FlowEvent, held: int) -> int:
    """The amount the books hold; an event that names another is refused."""
    if event.amount not in (None, held):
        raise Refusal("other_amount", "amount", f"{event.amount} where the books hold {held}")
    return held


def deposit(event: FlowEvent, _: Facts) -> Plan:
    """TREASURY → customer: value enters the book."""
    to = _of(event, event.creditor)
    return Chain(event).leg(_treasury(event.asset), to, _amount(event), TransferCode.DEPOSIT).plan()


def withdrawal(event: FlowEvent, _: Facts) -> Plan:
    """Customer → TREASURY: value leaves it."""
    of = _of(event, event.debtor)
    return Chain(event).leg(of, _treasury(event.asset), _amount(event), TransferCode.WITHDRAWAL).plan()


def payment(event: FlowEvent, _: Facts) -> Plan:
    """Customer → customer."""
    debit, credit = _of(event, event.debtor), _of(event, event.creditor)
    return Chain(event).leg(debit, credit, _amount(event), TransferCode.PAYMENT).plan()


def fee(event: FlowEvent, _: Facts) -> Plan:
    """Customer → FEE_POOL."""
    pool = account(event.asset, AccountCode.FEE_POOL)
    return Chain(event).leg(_of(event, event.debtor), pool, _amount(event), TransferCode.FEE).plan()


def refund(event: FlowEvent, facts: Facts) -> Plan:
    """Back from who was paid to who paid, all refunds together at most the payment.

    Each refund's mark is named by what was refunded before it, so two at once can't both count from there.
    """
    assert event.reference is not None
    paid = _referred(event, facts, TransferCode.PAYMENT)
    _same_side(paid.credit, _of(event, event.debtor), "debtor", "was not paid by it")
    _same_side(paid.debit, _of(event, event.creditor), "creditor", "did not pay it")
    own, before = event.name.transfer_id(0), 0
    while (mark := facts.transfer(name_mark("refund", event.reference, str(before)))) is not None:
        if mark.user_data_128 == own:
            break
        before += _marked(facts, mark).amount
    if before + _amount(event) > paid.amount:
        raise Refusal("exceeds_payment", "amount", f"of {paid.amount} paid, {before} is refunded already")
    chain = Chain(event).leg(
        _of(event, event.debtor), _of(event, event.creditor), _amount(event), TransferCode.REFUND
    )
    return chain.mark(name_mark("refund", event.reference, str(before))).plan()


def settle(event: FlowEvent, _: Facts) -> Plan:
    """MERCHANT → TREASURY: what the merchant has earned is paid out in the real world."""
    of = _of(event, event.debtor)
    return Chain(event).leg(of, _treasury(event.asset), _amount(event), TransferCode.SETTLEMENT).plan()


def reverse(event: FlowEvent, facts: Facts) -> Plan:
    """TREASURY → MERCHANT: a whole settlement back, once."""
    assert event.reference is not None
    settled = _referred(event, facts, TransferCode.SETTLEMENT)
    merchant = _of(event, event.creditor)
    _same_side(settled.debit, merchant, "creditor", "was not settled by it")
    once = name_mark("reversed", event.reference)
    _free(event, facts, once, "already_reversed", "reference", f"{event.reference} was reversed before")
    amount = _same_amount(event, settled.amount)
    chain = Chain(event).leg(_treasury(event.asset), merchant, amount, TransferCode.SETTLEMENT_REVERSAL)
    return chain.mark(once).plan()


def authorize(event: FlowEvent, facts: Facts) -> Plan:
    """USER → SYSTEM_BUFFER. Its mark remembers the end of the authorization and the anchor's book."""
    assert event.debtor is not None
    user = account(ANCHOR_ASSET, event.debtor.code, event.debtor.owner)
    begin = mark_id("authorize", event.subject)
    _free(event, facts, begin, "already_authorized", "subject", f"{event.subject} is another authorization")
    chain = Chain(event).leg(user, _buffer(), _amount(event), TransferCode.ANCHOR_AUTHORIZATION)
    obligation = LEDGER_IDS[event.anchor + OBLIGATION]
    return chain.mark(begin, until_ms=event.expires_ms, ledger=obligation).plan()


def claim(event: FlowEvent, facts: Facts) -> Plan:
    """SYSTEM_BUFFER → ANCHOR in SOVR and TREASURY → ANCHOR in the obligation book, linked."""
    begin, held = _authorization(event, facts)
    claimed, end = _stages(event)
    if facts.transfer(claimed, end) is None:  # a claim that stands may have ended since
        gone = f"{event.subject} has expired before it was claimed"
        _free(event, facts, end, "already_ended", "subject", gone)
    elif facts.transfers[end] is not None:
        _free(event, facts, claimed, "already_ended", "subject", f"{event.subject} is fulfilled or expired")
    _free(event, facts, claimed, "already_claimed", "subject", f"{event.subject} was claimed before")
    _in_time(event, begin)
    amount, (anchor, owed, treasury) = _same_amount(event, held.amount), _anchor(event, begin)
    chain = Chain(event).leg(_buffer(), anchor, amount, TransferCode.ANCHOR_AUTHORIZATION)
    return chain.leg(treasury, owed, amount, TransferCode.ANCHOR_AUTHORIZATION).mark(claimed).plan()


def fulfil(event: FlowEvent, facts: Facts) -> Plan:
    """ANCHOR → TREASURY in both books: the obligation is met, the units are spent."""
    begin, held = _authorization(event, facts)
    claimed, end = _stages(event)
    if facts.transfer(claimed, end) is None:
        raise Refusal("not_claimed", "subject", f"{event.subject} was not claimed")
    _free(event, facts, end, "already_ended", "subject", f"{event.subject} is fulfilled or expired")
    _in_time(event, begin)
    amount, (anchor, owed, treasury) = _same_amount(event, held.amount), _anchor(event, begin)
    chain = Chain(event).leg(anchor, _treasury(ANCHOR_ASSET), amount, TransferCode.ANCHOR_FULFILLMENT)
    return chain.leg(owed, treasury, amount, TransferCode.ANCHOR_FULFILLMENT).mark(end).plan()


def expire(event: FlowEvent, facts: Facts) -> Plan:
    """Back to the user: from SYSTEM_BUFFER before the claim, both pairs reversed after it.

    Before the claim it takes the claim's mark too, so no claim can follow.
    """
    assert event.creditor is not None
    begin, held = _authorization(event, facts)
    user = account(ANCHOR_ASSET, event.creditor.code, event.creditor.owner)
    _same_side(held.debit, user, "creditor", "did not authorize it")
    claimed, end = _stages(event)
    taken = facts.transfer(claimed, end)
    _free(event, facts, end, "already_ended", "subject", f"{event.subject} is fulfilled or expired")
    if event.time_ms < begin.user_data_64:
        raise Refusal("not_expired", "time", f"{event.subject} ends at {begin.user_data_64}")
    amount, (anchor, owed, treasury) = _same_amount(event, held.amount), _anchor(event, begin)
    code = TransferCode.ANCHOR_EXPIRY
    if taken is None or taken.user_data_128 == event.name.transfer_id(0):
        return Chain(event).leg(_buffer(), user, amount, code).mark(claimed).mark(end).plan()
    return Chain(event).leg(anchor, user, amount, code).leg(owed, treasury, amount, code).mark(end).plan()


def lock(event: FlowEvent, facts: Facts) -> Plan:
    """Pending transfer to the owner's ESCROW account; its mark remembers when the lock ends."""
    assert event.debtor is not None
    begin = mark_id("lock", event.subject)
    _free(event, facts, begin, "already_locked", "subject", f"{event.subject} is another escrow")
    chain = Chain(event).leg(
        _of(event, event.debtor), _escrow(event), _amount(event), TransferCode.ESCROW_LOCK,
        flags=PENDING, timeout=event.timeout_s,
    )  # fmt: skip
    return chain.mark(begin, until_ms=event.expires_ms).plan()


def release(event: FlowEvent, facts: Facts) -> Plan:
    """Posts the lock and pays out of ESCROW; what is not released goes back to the owner by itself."""
    begin, held = _locked(event, facts)
    _in_time(event, begin)
    amount = held.amount if event.amount is None else event.amount
    if amount > held.amount:
        raise Refusal("exceeds_lock", "amount", f"{amount} of {held.amount} locked")
    owner, escrow = _of(event, event.debtor), _escrow(event)
    chain = Chain(event, phase_of(event.kind))
    chain.leg(owner, escrow, amount, TransferCode.ESCROW_LOCK, flags=POST, pending_id=held.id)
    return chain.leg(escrow, _of(event, event.creditor), amount, TransferCode.ESCROW_RELEASE).plan()


def void(event: FlowEvent, facts: Facts) -> Plan:
    """Voids the lock; a transfer of nothing with code ESCROW_VOID says so in the books."""
    begin, held = _locked(event, facts)
    if event.kind == Kind.LAPSE and not 0 < begin.user_data_64 <= event.time_ms:
        end = f"ends at {begin.user_data_64}" if begin.user_data_64 else "has no end"
        raise Refusal("not_expired", "time", f"{event.subject} {end}")
    amount, escrow = _same_amount(event, held.amount), _escrow(event)
    chain = Chain(event, phase_of(event.kind))
    chain.leg(
        _of(event, event.debtor), escrow, amount, TransferCode.ESCROW_LOCK, flags=VOID, pending_id=held.id
    )
    return chain.leg(control(event.asset), escrow, 0, TransferCode.ESCROW_VOID).plan()


def freeze(event: FlowEvent, _: Facts) -> Plan:
    """A pending transfer of nothing that closes the account on its debit side."""
    chain = Chain(event).leg(
        _of(event, event.debtor), control(event.asset), 0, TransferCode.LOCK, flags=PENDING | CLOSING_DEBIT
    )
    return chain.plan("frozen")


def thaw(event: FlowEvent, facts: Facts) -> Plan:
    """Voids the freeze. A closed account stays closed."""
    held, chain = _of(event, event.debtor), Chain(event, Phase.VOID)
    own = facts.transfer(chain.register)
    pending = own.pending_id if own else _frozen_by(facts, held)
    if pending is None:
        raise Refusal("not_frozen", "debtor", f"{held.owner or held.asset} is not frozen")
    chain.leg(held, control(event.asset), 0, TransferCode.LOCK, flags=VOID, pending_id=pending)
    return chain.plan("active")


def close(event: FlowEvent, facts: Facts) -> Plan:
    """Closes an empty account for good, on its credit side; one that is frozen is thawed in the same chain.

    One that has paid into an escrow that is open stays: of a posted lock the books alone know who is to be paid back.
    """
    held, side, chain = _of(event, event.debtor), control(event.asset), Chain(event)
    thawed = event.name.transfer_id(1, Phase.VOID)
    if facts.transfer(chain.register, thawed) is not None:
        own = facts.transfer(thawed)
        pending = own.pending_id if own else None
    else:
        pending, escrows = _frozen_by(facts, held), facts.open_escrows(held)
        if escrows:
            detail = f"{held.owner} has {event.asset} in {escrows} open escrows or positions; end them first"
            raise Refusal("not_empty", "debtor", detail)
        row = facts.account(held)  # read after the escrows: what they gave back is in it
        if row and (row.debits_posted != row.credits_posted or row.debits_pending or row.credits_pending):
            raise Refusal("not_empty", "debtor", f"{held.owner} still holds or awaits {event.asset}")
    if pending is not None:
        chain.leg(held, side, 0, TransferCode.LOCK, flags=VOID, pending_id=pending, ident=thawed)
    return chain.leg(side, held, 0, TransferCode.LOCK, flags=PENDING | CLOSING_CREDIT).plan("closed")


def post(event: FlowEvent, _: Facts) -> Plan:
    """The legs as they are; what an application's state allows it has judged itself."""
    chain = Chain(event)
    for leg in event.legs:
        chain.leg(leg.debit, leg.credit, leg.amount, TransferCode(leg.code))
    return chain.plan()


RULES: Final[dict[Kind, Callable[[FlowEvent, Facts], Plan]]] = {
    Kind.DEPOSIT: deposit,
    Kind.WITHDRAWAL: withdrawal,
    Kind.PAYMENT: payment,
    Kind.REFUND: refund,
    Kind.FEE: fee,
    Kind.AUTHORIZE: authorize,
    Kind.CLAIM: claim,
    Kind.FULFIL: fulfil,
    Kind.EXPIRE: expire,
    Kind.LOCK: lock,
    Kind.RELEASE: release,
    Kind.VOID: void,
    Kind.LAPSE: void,
    Kind.SETTLE: settle,
    Kind.REVERSE: reverse,
    Kind.FREEZE: freeze,
    Kind.THAW: thaw,
    Kind.CLOSE: close,
    Kind.POST: post,
}


def _buffer() -> AccountRef:
    return account(ANCHOR_ASSET, AccountCode.SYSTEM_BUFFER)


def _escrow(event: FlowEvent) -> AccountRef:
    assert event.debtor is not None
    return account(event.asset, AccountCode.ESCROW, event.debtor.owner)


def _stages(event: FlowEvent) -> tuple[int, int]:
    """Marks of an authorization: it has left the buffer, it is at its end."""
    return mark_id("claim", event.subject), mark_id("end", event.subject)


def _anchor(event: FlowEvent, begin: TransferRow) -> tuple[AccountRef, AccountRef, AccountRef]:
    """The anchor's account in SOVR, that in its obligation book, and the treasury there."""
    anchor = anchor_of_ledger(begin.user_data_32)
    if event.anchor not in ("", anchor):
        raise Refusal("other_anchor", "anchor", f"{event.subject} was authorized for {anchor}")
    owed = anchor + OBLIGATION
    return (
        account(ANCHOR_ASSET, AccountCode.ANCHOR, anchor),
        account(owed, AccountCode.ANCHOR, anchor),
        _treasury(owed),
    )


def _authorization(event: FlowEvent, facts: Facts) -> tuple[TransferRow, TransferRow]:
    """(its mark, its transfer)."""
    begin = facts.transfer(mark_id("authorize", event.subject), *_stages(event))
    if begin is None:
        raise Refusal("unknown_authorization", "subject", f"there is no authorization {event.subject}")
    return begin, _marked(facts, begin)


def _locked(event: FlowEvent, facts: Facts) -> tuple[TransferRow, TransferRow]:
    """(its mark, the pending transfer), of the owner and asset that the event names."""
    begin = facts.transfer(mark_id("lock", event.subject))
    if begin is None:
        raise Refusal("unknown_escrow", "subject", f"there is no escrow {event.subject}")
    held = _marked(facts, begin)
    if held.ledger != LEDGER_IDS[event.asset]:
        raise Refusal("other_asset", "asset", f"{event.subject} is not locked in {event.asset}")
    _same_side(held.debit, _of(event, event.debtor), "debtor", "did not lock it")
    return begin, held


def _referred(event: FlowEvent, facts: Facts, code: TransferCode) -> TransferRow:
    assert event.reference is not None
    row = facts.transfer(event.reference.transfer_id(0))
    if row is None or row.code != code:
        raise Refusal("unknown_reference", "reference", f"there is no {code.name} of event {event.reference}")
    if row.ledger != LEDGER_IDS[event.asset]:
        raise Refusal("other_asset", "asset", f"{event.reference} was not in {event.asset}")
    return row


def _marked(facts: Facts, mark: TransferRow) -> TransferRow:
    row = facts.transfer(mark.user_data_128)
    if row is None:
        raise LookupError(f"mark {mark.id:032x} points at a transfer that is not there")
    return row


def _same_side(held: bytes, ref: AccountRef, field: str, what: str) -> None:
    if held != ident(ref):
        raise Refusal("other_party", field, f"{ref.owner} {what}")


def _free(event: FlowEvent, facts: Facts, mark: int, reason: str, field: str, detail: str) -> None:
    """Refuse unless nobody, or this very event, has taken the mark."""
    row = facts.transfer(mark)
    if row is not None and row.user_data_128 != event.name.transfer_id(0):
        raise Refusal(reason, field, detail)


def _in_time(event: FlowEvent, begin: TransferRow) -> None:
    if begin.user_data_64 and event.time_ms >= begin.user_data_64:
        raise Refusal("expired", "time", f"{event.subject} ended at {begin.user_data_64}")


def _frozen_by(facts: Facts, held: AccountRef) -> int | None:
    """The transfer that froze an account, None if it is active. Raises Refusal if it is closed."""
    last = facts.closing(held)
    if last is None or not last.flags & CLOSING:
        return None
    if last.flags & CLOSING_CREDIT:
        raise Refusal("account_closed", "debtor", f"{held.owner} is closed")
    return last.id
