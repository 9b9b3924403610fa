"""The audit of the history against the books: every account's sums, and the transfers themselves by their ids.

The books are written first and told to the history afterwards, so the history may be behind: what only the books have
is a finding unless all of it was booked after the last transfer of its chain that the history has. What the history
has, the books must have, whatever is under way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any, Final, NamedTuple

from pipeline.domain.account import AccountCode, AccountRef, account_id
from pipeline.domain.audit import Result
from pipeline.domain.flows import accounts as offchain
from sinks.books import (
    ACCOUNT_FILTER_STRUCT,
    ACCOUNT_STRUCT,
    BATCH_MAX,
    QUERY_FILTER_STRUCT,
    TRANSFER_STRUCT,
    Books,
)
from sinks.ddl_shape import literal

Ask = Callable[[str], Iterable[Mapping[str, Any]]]
SHOWN: Final = 50
SAMPLE: Final = 20_000  # transfers looked up by id, unless all are
END: Final = (1 << 62) - 1
_BOTH_SIDES: Final = 3  # flags of an account filter: debits and credits
BEHIND: Final = (
    "the history is behind: what the books have beyond its last transfer comes with the history role"
)


class Sums(NamedTuple):
    """Of one account."""

    pending_debits: int
    debits: int
    pending_credits: int
    credits: int


def check_books(ask: Ask, books: Books, full: bool, chain: str = "", live: bool = False) -> Iterator[Result]:
    """Accounts and transfers of all chains, or of one; `full`: every transfer, else always the same sample.

    `live`: the history is being written, one asset may be further than another.
    """
    yield from _accounts(ask, books, chain, live)
    where = [f"chain = {literal(chain)}"] if chain else []
    if not full:
        all_of_them = "SELECT count() FROM transfers"
        where.append(f"sipHash64(transfer_id) % greatest(1, intDiv(({all_of_them}), {SAMPLE})) = 0")
    yield from check_legs(ask, books, " AND ".join(where), "transfers" if full else "transfers looked up")


def _accounts(ask: Ask, books: Books, chain: str, live: bool) -> Iterator[Result]:
    known: set[bytes] = set()
    looked: dict[str, int] = {}
    wrong: dict[str, int] = {}
    behind: dict[str, int] = {}
    rows = iter(ask(_account_sums(chain)))
    horizon = _Horizon(ask, books, live)
    while part := list(islice(rows, BATCH_MAX)):
        refs = [AccountRef(row["asset"], int(row["code"]), row["owner"], row["subject"]) for row in part]
        ids = [_account(ref) for ref in refs]
        known.update(ids)
        held = _held(books, ids)
        for row, ref, ident in zip(part, refs, ids, strict=True):
            told = Sums(*(int(row[name]) for name in Sums._fields))
            name = str(row["chain"])
            looked[name] = looked.get(name, 0) + 1
            found = held.get(ident, Sums(0, 0, 0, 0))
            if found == told:
                continue
            result = _difference(ask, books, horizon, name, ref, told, found)
            wrong[name] = wrong.get(name, 0) + (result.ok is False)
            behind[name] = behind.get(name, 0) + (result.ok is None)
            if (behind if result.ok is None else wrong)[name] <= SHOWN:
                yield result
    if not chain:
        yield from _unknown(books, known, horizon)
    for name, count in looked.items():
        text = f"{count - behind.get(name, 0)} accounts"
        if not wrong.get(name) and count > behind.get(name, 0):
            yield Result("accounts", name, text, text, True)


def _account_sums(chain: str) -> str:
    where = f" WHERE chain = {literal(chain)}" if chain else ""
    return (
        "SELECT toString(chain) AS chain, toString(asset) AS asset, code, owner, subject, pending_debits, debits,"
        f" pending_credits, credits FROM book_balances(position = {END}){where} SETTINGS final = 1"
    )


def _account(ref: AccountRef) -> bytes:
    """Id of an account; where damage names a book that S4 does not list, one that nobody has."""
    if offchain.is_offchain(ref.asset):
        with suppress(KeyError):
            return offchain.ident(ref)
    return account_id(ref)


def _held(books: Books, ids: Sequence[bytes]) -> dict[bytes, Sums]:
    rows = books.lookup_accounts_packed(b"".join(ids))
    return {
        row[0]: Sums(_int(row[1]), _int(row[2]), _int(row[3]), _int(row[4]))
        for row in ACCOUNT_STRUCT.iter_unpack(rows)
    }


def _int(data: bytes) -> int:
    return int.from_bytes(data, "little")


class _Horizon:
    """How far the history has a chain's transfers, or those of each of its books: when the books took the last one.

    Within a book the history has them in the books' order, for they come in one partition; across books it may not.
    """

    def __init__(self, ask: Ask, books: Books, by_book: bool) -> None:
        self._ask, self._books, self._by_book = ask, books, by_book
        self._known: dict[tuple[int, int], int] = {}

    def of(self, chain_number: int, book: int) -> int:
        """A timestamp of the books; 0 where the history has none."""
        key = chain_number, book if self._by_book else 0
        if key not in self._known:
            where = f"chain_number = {int(chain_number)}{f' AND book = {int(book)}' if self._by_book else ''}"
            last = self._ask(
                f"SELECT transfer_id FROM transfers WHERE {where} AND status != 'refused'"
                f" ORDER BY block DESC, transaction_index DESC LIMIT {BATCH_MAX} SETTINGS final = 1"
            )
            ids = b"".join(_ident(row) for row in last)
            rows = TRANSFER_STRUCT.iter_unpack(self._books.lookup_transfers_packed(ids))
            self._known[key] = max((row[12] for row in rows), default=0)
        return self._known[key]

    def all_beyond(self, rows: Sequence[tuple[Any, ...]]) -> bool:
        """Were all of these transfers booked after what the history has of theirs?"""
        return bool(rows) and all(row[12] > self.of(row[7], row[9]) for row in rows)


def _ident(row: Mapping[str, Any]) -> bytes:
    return int(str(row["transfer_id"]), 16).to_bytes(16, "little")


def _difference(
    ask: Ask, books: Books, horizon: _Horizon, chain: str, ref: AccountRef, told: Sums, found: Sums
) -> Result:
    """An account whose sums differ: what the books have beyond the history, transfer by transfer."""
    ours = {str(row["transfer_id"]) for row in ask(_transfers_of(ref))}
    missing = [row for row in _booked(books, _account(ref)) if f"{_int(row[0]):032X}" not in ours]
    behind = horizon.all_beyond(missing)
    evidence: dict[str, Any] = {
        "asset": ref.asset, "code": ref.code, "owner": ref.owner, "subject": ref.subject,
        "not_in_history": [f"{_int(row[0]):032X}" for row in missing[:20]], "not_in_history_count": len(missing),
        "difference": {
            side: str(there - here)
            for side, here, there in zip(Sums._fields, told, found, strict=True)
            if here != there
        },
    }  # fmt: skip
    if behind:
        evidence["why"] = BEHIND
    name = f"{chain} {ref.asset} {AccountCode(ref.code).name} {ref.owner} {ref.subject}".rstrip()
    return Result("accounts", name, _text(found), _text(told), None if behind else False, evidence=evidence)


def _text(sums: Sums) -> str:
    pending = f" pending -{sums.pending_debits} +{sums.pending_credits}" if sums[0] or sums[2] else ""
    return f"-{sums.debits} +{sums.credits}{pending}"


def _transfers_of(ref: AccountRef) -> str:
    def side(name: str) -> str:
        return (
            f"({name}_code = {int(ref.code)} AND {name}_owner = {literal(ref.owner)}"
            f" AND {name}_subject = {literal(ref.subject)})"
        )

    return (
        f"SELECT transfer_id FROM transfers WHERE asset = {literal(ref.asset)} AND ({side('debit')} OR"
        f" {side('credit')}) SETTINGS final = 1"
    )


def _booked(books: Books, account: bytes) -> Iterator[tuple[Any, ...]]:
    """All transfers of an account that move something, in the books' order."""
    after = 0
    while True:
        asked = ACCOUNT_FILTER_STRUCT.pack(
            account, bytes(16), 0, 0, 0, bytes(58), after, 0, BATCH_MAX, _BOTH_SIDES
        )
        rows = books.get_account_transfers_packed(asked)
        for row in TRANSFER_STRUCT.iter_unpack(rows):
            after = row[12] + 1
            if any(row[3]):
                yield row
        if len(rows) < BATCH_MAX * TRANSFER_STRUCT.size:
            return


def _unknown(books: Books, known: set[bytes], horizon: _Horizon) -> Iterator[Result]:
    """Accounts of the books that hold something and that no transfer of the history names."""
    after, wrong, on_their_way = 0, 0, 0
    while True:
        asked = QUERY_FILTER_STRUCT.pack(bytes(16), 0, 0, 0, 0, bytes(6), after, 0, BATCH_MAX, 0)
        rows = books.query_accounts_packed(asked)
        for row in ACCOUNT_STRUCT.iter_unpack(rows):
            after = row[12] + 1
            if row[0] in known or row[10] == AccountCode.BOOK or not any(map(any, row[1:5])):
                continue
            behind = horizon.all_beyond(list(_booked(books, row[0])))
            wrong, on_their_way = wrong + (not behind), on_their_way + behind
            if behind and on_their_way > SHOWN:  # no reason to end the search
                continue
            sums = Sums(*(_int(one) for one in row[1:5]))
            why = BEHIND if behind else "no transfer of the history names this account"
            evidence = {"why": why, "difference": "all of it"}
            name = f"books {AccountCode(row[10]).name} {_int(row[0]):032X}"
            yield Result("accounts", name, _text(sums), "-0 +0", None if behind else False, evidence=evidence)
            if wrong == SHOWN:
                return
        if len(rows) < BATCH_MAX * ACCOUNT_STRUCT.size:
            return


def check_legs(ask: Ask, books: Books, where: str, what: str = "transfers looked up") -> Iterator[Result]:
    """The transfers of the history under a condition: each stands in the books as it is; a refused one does not."""
    rows = iter(ask(_leg_rows(where)))
    looked: dict[str, int] = {}
    wrong: dict[str, int] = {}
    while part := list(islice(rows, BATCH_MAX)):
        ids = b"".join(map(_ident, part))
        held = {_int(row[0]): row for row in TRANSFER_STRUCT.iter_unpack(books.lookup_transfers_packed(ids))}
        for row in part:
            name = str(row["chain"])
            looked[name] = looked.get(name, 0) + 1
            told, found = _leg_told(row), _leg_held(held.get(int(str(row["transfer_id"]), 16)))
            if (found == "not in the books") if row["status"] == "refused" else (told == found):
                continue
            wrong[name] = wrong.get(name, 0) + 1
            if wrong[name] <= SHOWN:
                block = int(row["block"])
                yield Result("legs", name, found, told, False, block, block, evidence=dict(row))
    for name, count in looked.items():
        if not wrong.get(name):
            text = f"{count} {what}"
            yield Result("legs", name, text, text, True)


def _leg_rows(where: str) -> str:
    return (
        "SELECT toString(chain) AS chain, toString(asset) AS asset, block, transfer_id, toString(status) AS status,"
        " code, debit_code, debit_owner, debit_subject, credit_code, credit_owner, credit_subject,"
        " toString(amount) AS amount, _topic, _partition, _offset FROM transfers"
        f"{f' WHERE {where}' if where else ''} SETTINGS final = 1"
    )


def _leg_told(row: Mapping[str, Any]) -> str:
    asset = row["asset"]
    debit = _account(AccountRef(asset, int(row["debit_code"]), row["debit_owner"], row["debit_subject"]))
    credit = _account(AccountRef(asset, int(row["credit_code"]), row["credit_owner"], row["credit_subject"]))
    return _leg(debit, credit, int(row["amount"]), int(row["code"]))


def _leg_held(row: tuple[Any, ...] | None) -> str:
    return "not in the books" if row is None else _leg(row[1], row[2], _int(row[3]), row[10])


def _leg(debit: bytes, credit: bytes, amount: int, code: int) -> str:
    return f"{amount} of code {code} from {_int(debit):032X} to {_int(credit):032X}"
