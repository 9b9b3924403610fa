"""What a flow asks of the books: one chain of transfers that happens whole or not at all.

A *mark* is a transfer of nothing whose id is made of what must happen only once (the claim of an
authorization, the end of it, the n-th refund of a payment); its `user_data_128` is the id of the transfer
that it marks. Two flows that exclude each other carry the same mark, so the books themselves refuse the
second (`exists_with_different_user_data_128`), whoever sends them and in whatever process. A mark moves
nothing and stands behind its transfer, so it can never be burnt.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from pipeline.domain.account import AccountRef, TransferCode
from pipeline.domain.flows.accounts import AccountRow, ident
from pipeline.domain.flows.events import EventName, FlowEvent
from pipeline.domain.position import Phase, named_transfer_id

LINKED: Final = 1
PENDING: Final = 2
POST: Final = 4
VOID: Final = 8
CLOSING_DEBIT: Final = 64
CLOSING_CREDIT: Final = 128
CLOSING: Final = CLOSING_DEBIT | CLOSING_CREDIT


class TransferRow(NamedTuple):
    """A transfer as the books hold it; numbers but for the accounts' ids (16 bytes, little-endian)."""

    id: int
    debit: bytes
    credit: bytes
    amount: int
    pending_id: int
    user_data_128: int
    user_data_64: int
    user_data_32: int
    timeout: int
    ledger: int
    code: int
    flags: int
    timestamp: int


class Move(NamedTuple):
    """A transfer to be made, by the names of its accounts."""

    id: int
    debit: AccountRef
    credit: AccountRef
    amount: int
    code: int
    user_data_128: int
    user_data_64: int
    user_data_32: int
    flags: int = 0
    pending_id: int = 0
    timeout: int = 0

    @property
    def status(self) -> str:
        """What it makes of its amount: posted, pending or voided."""
        if self.flags & PENDING:
            return "pending"
        return "voided" if self.flags & VOID else "posted"

    def difference(self, row: TransferRow, flags: int) -> str | None:
        """The field in which a stored transfer is another one, None if it is this one."""
        ours = (
            ident(self.debit), ident(self.credit), self.amount, self.pending_id, self.user_data_128,
            self.user_data_64, self.user_data_32, self.timeout, self.code, flags,
        )  # fmt: skip
        names = (
            "debtor",
            "creditor",
            "amount",
            "reference",
            "name",
            "time",
            "content",
            "timeout",
            "kind",
            "kind",
        )
        theirs = (*row[1:9], row.code, row.flags)
        return next((n for n, a, b in zip(names, ours, theirs, strict=True) if a != b), None)


@dataclass(frozen=True, slots=True)
class Plan:
    """A chain in its order, and the id that holds the event's answer."""

    moves: tuple[Move, ...]
    register: int
    status: str = ""  # of the account, where the flow changes it: active, frozen, closed

    def flags(self, place: int) -> int:
        """Flags of a move in the chain: all but the last are linked."""
        return self.moves[place].flags | (LINKED if place < len(self.moves) - 1 else 0)


class Need(Exception):
    """A rule wants to know more of the books."""

    def __init__(
        self,
        transfers: tuple[int, ...] = (),
        accounts: tuple[AccountRef, ...] = (),
        closings: tuple[AccountRef, ...] = (),
        paid_in: tuple[AccountRef, ...] = (),
    ) -> None:
        self.transfers, self.accounts, self.closings, self.paid_in = transfers, accounts, closings, paid_in


@dataclass(slots=True)
class Facts:
    """What is known of the books; None = looked up and not there."""

    transfers: dict[int, TransferRow | None] = field(default_factory=dict)
    accounts: dict[AccountRef, AccountRow | None] = field(default_factory=dict)
    closings: dict[AccountRef, TransferRow | None] = field(default_factory=dict)
    paid_in: dict[AccountRef, int] = field(default_factory=dict)

    def transfer(self, *wanted: int) -> TransferRow | None:
        """The first of the wanted transfers; all are looked up at once. Raises Need."""
        missing = tuple(one for one in wanted if one not in self.transfers)
        if missing:
            raise Need(transfers=missing)
        return self.transfers[wanted[0]]

    def account(self, ref: AccountRef) -> AccountRow | None:
        """An account's row. Raises Need."""
        if ref not in self.accounts:
            raise Need(accounts=(ref,))
        return self.accounts[ref]

    def closing(self, ref: AccountRef) -> TransferRow | None:
        """The last transfer that closed or opened an account. Raises Need."""
        if ref not in self.closings:
            raise Need(closings=(ref,))
        return self.closings[ref]

    def open_escrows(self, ref: AccountRef) -> int:
        """How many escrow accounts hold something that an account has paid in. Raises Need."""
        if ref not in self.paid_in:
            raise Need(paid_in=(ref,))
        return self.paid_in[ref]


def mark_id(stage: str, *of: str) -> int:
    """Id of a mark: five parts at least, so that no event's name can be one."""
    return named_transfer_id("marker", stage, str(len(of)), *of, "")


def name_mark(stage: str, name: EventName, more: str = "") -> int:
    """Id of a mark on an event."""
    return mark_id(stage, *name.parts, more)


class Chain:
    """Builds the moves of one event: its legs are numbered, its marks point at its first leg."""

    def __init__(self, event: FlowEvent, phase: Phase = Phase.SINGLE) -> None:
        self._event, self._moves = event, list[Move]()
        self.register = event.name.transfer_id(0, phase)
        self._legs = 0
        self._digest = event.digest() or 1  # 0 would be taken from the pending transfer

    def leg(
        self, debit: AccountRef, credit: AccountRef, amount: int, code: TransferCode, *,
        flags: int = 0, pending_id: int = 0, timeout: int = 0, ident: int | None = None,
    ) -> Chain:  # fmt: skip
        """Add a transfer; the first one's id is the event's register."""
        if ident is None:
            ident = self.register if self._legs == 0 else self._event.name.transfer_id(self._legs)
            self._legs += 1
        self._moves.append(
            Move(ident, debit, credit, amount, int(code), self._event.name.user_data, self._event.time_ms,
                 self._digest, flags, pending_id, timeout)
        )  # fmt: skip
        return self

    def mark(self, ident: int, *, until_ms: int = 0, ledger: int = 0) -> Chain:
        """Add a mark between the accounts of the first leg."""
        first = self._moves[0]
        self._moves.append(
            Move(ident, first.debit, first.credit, 0, first.code, self.register, until_ms, ledger)
        )
        return self

    def plan(self, status: str = "") -> Plan:
        """The chain."""
        return Plan(tuple(self._moves), self.register, status)
