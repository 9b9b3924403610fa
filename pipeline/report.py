"""Judges a run from its stores alone: invariants, balances proven, and what there is to see.

Each invariant is True, False or "not_applicable" (what can't be judged is never passed). The books
are proven against facts that did not go through them: the absolute balances that the ledger's own
metadata gave, and the header's total_coins.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pipeline.domain.account import AccountCode, AccountRef, account_id
from pipeline.domain.asset import NATIVE, native_key
from pipeline.domain.balances import AccountBalance
from pipeline.domain.quantise import quantise
from sinks import exports
from sinks.books import ACCOUNT_DTYPE, ACCOUNT_STRUCT, BATCH_MAX

GENESIS_DROPS = 10**17
NOT_APPLICABLE = "not_applicable"
Verdict = bool | str


def book_balances(books: Any, history: Any, chain_number: int) -> Iterator[AccountBalance]:
    """Every account of a chain with its balance as TigerBeetle has it; the names come from the history."""
    question = exports.accounts(chain_number)
    refs = [
        AccountRef(row["asset"], row["code"], row["owner"], row["subject"])
        for row in history.query(question.sql, question.parameters)
    ]
    for start in range(0, len(refs), BATCH_MAX):
        part = refs[start : start + BATCH_MAX]
        rows = books.lookup_accounts_packed(b"".join(map(account_id, part)))
        found = {
            row[0]: (_difference(row[4], row[2]), _difference(row[3], row[1]))
            for row in (
                ACCOUNT_STRUCT.unpack_from(rows, at) for at in range(0, len(rows), ACCOUNT_DTYPE.itemsize)
            )
        }
        for ref in part:
            yield AccountBalance(*ref, *found.get(account_id(ref), (0, 0)))


def _difference(credits: bytes, debits: bytes) -> int:
    return int.from_bytes(credits, "little") - int.from_bytes(debits, "little")


def make_report(books: Any, history: Any, chain_name: str, chain_number: int) -> dict[str, Any]:
    """The report of one chain: counts, XRP, invariants, a gas report, one NFT's story."""
    where = f"chain_number = {int(chain_number)}"
    ledgers = next(history.query(
        "SELECT count() AS ledgers, min(ledger_index) AS first, max(ledger_index) AS last,"
        f" uniqExact(ledger_index) AS distinct, uniqExact(run) AS runs, min(run) AS first_run,"
        f" countIf(ledger_hash IS NULL OR parent_hash IS NULL) AS unhashed FROM xrpl_ledgers WHERE {where}"
    ))  # fmt: skip
    transactions = next(history.query(
        f"SELECT count() AS rows, uniqExact(hash) AS distinct FROM xrpl_transactions WHERE {where}"
    ))  # fmt: skip
    balances = list(book_balances(books, history, chain_number)) if ledgers["ledgers"] else []
    xrp = _xrp(balances, chain_name, history, where)
    state = _starting_state(history, where)
    return {
        "chain": chain_name,
        "ledgers": ledgers["ledgers"],
        "first_ledger": ledgers["first"],
        "last_ledger": ledgers["last"],
        "runs": ledgers["runs"],
        "starting_state": {"ledger": state["ledger_index"], "entries": int(state["entries"])}
        if state
        else None,
        "transactions": transactions["rows"],
        "accounts": len(balances),
        "xrp": xrp,
        "invariants": {
            "hash_chain": True if ledgers["unhashed"] == 0 else NOT_APPLICABLE,
            "no_duplicates": _no_duplicates(ledgers, transactions, history, where),
            "clearing_zero": _net(balances, AccountCode.CLEARING) == 0,
            **_coins(xrp, ledgers, state, history, where),
            "gas_report_equals_fee_burn": _gas_equals_burn(balances, chain_name, history, where),
            "books_equal_ledger": _books_equal_ledger(balances, chain_name, history, where),
            "books_equal_history": books_equal_history(balances, history, chain_number),
        },
        "alerts": alerts_of(history, [chain_name]),
    }


def no_report() -> dict[str, Any]:
    """The report of a run without XRPL ledgers: the same names, and nothing counted."""
    return {
        "chain": None,
        "ledgers": 0,
        "first_ledger": None,
        "last_ledger": None,
        "runs": 0,
        "starting_state": None,
        "transactions": 0,
        "accounts": 0,
        "xrp": {"in_books": 0, "burnt": 0, "unseen": None, "total": 0, "total_coins": None},
        "invariants": {},
        "alerts": [],
    }


def alerts_of(history: Any, chains: Sequence[str]) -> list[dict[str, Any]]:
    """Alerts of chains, and those that are of none: rule, severity, count."""
    question = (
        "SELECT rule, severity, count() AS count FROM alerts WHERE has({chains:Array(String)}, chain)"
        " GROUP BY rule, severity ORDER BY rule"
    )
    return list(history.query(question, {"chains": [*chains, ""]}))


def gas_payers(history: Any, chain_number: int) -> list[dict[str, Any]]:
    """Rows of the view `gas_report`: who paid most on a chain, five of them."""
    return list(history.query(
        f"SELECT * FROM gas_report WHERE chain_number = {chain_number} ORDER BY fee_paid DESC, owner LIMIT 5"
    ))  # fmt: skip


def _net(balances: list[AccountBalance], *codes: AccountCode, native: str | None = None) -> int:
    return sum(b.units for b in balances if b.code in codes and native in (None, b.asset))


def _xrp(balances: list[AccountBalance], chain: str, history: Any, where: str) -> dict[str, int | None]:
    """XRP in drops: what accounts, escrows and channels hold, what is burnt and what no account has shown yet."""
    native = native_key(chain)
    in_books = _net(balances, AccountCode.HOLDER, AccountCode.ESCROW, AccountCode.CHANNEL,
                    AccountCode.UNKNOWN_OBJECT, native=native)  # fmt: skip
    burnt = _net(balances, AccountCode.FEE_BURN, native=native)
    issued = -_net(balances, AccountCode.ISSUER, native=native)
    unseen = _net(balances, AccountCode.OPENING, native=native) if issued else None
    last = list(history.query(
        f"SELECT if(count(run_coins) = 0, NULL, argMax(total_coins, ledger_index)) AS total_coins, count() AS n"
        f" FROM xrpl_ledgers WHERE {where} AND run = (SELECT max(run) FROM xrpl_ledgers WHERE {where})"
    ))  # fmt: skip
    return {
        "in_books": in_books,
        "burnt": burnt,
        "unseen": unseen,
        "total": in_books + burnt + (unseen or 0),
        "total_coins": last[0]["total_coins"] if last else None,
    }


def _no_duplicates(ledgers: Any, transactions: Any, history: Any, where: str) -> Verdict:
    changes = next(history.query(
        "SELECT count() AS rows, uniqExact(ledger_index, transaction_index, account, asset) AS distinct"
        f" FROM balance_changes WHERE {where}"
    ))  # fmt: skip
    return bool(
        ledgers["ledgers"] == ledgers["distinct"]
        and transactions["rows"] == transactions["distinct"]
        and changes["rows"] == changes["distinct"]
    )


def _starting_state(history: Any, where: str) -> dict[str, Any]:
    """The state that the first run started from: pages in the history, and whether it is whole; {} = none."""
    rows = list(history.query(
        "SELECT ledger_index, any(total_coins) AS total_coins, uniqExact(page) AS pages, sum(entries) AS entries,"
        " countIf(last) = 1 AND maxIf(page, last) + 1 = uniqExact(page) AS whole"
        f" FROM xrpl_states WHERE {where} AND run = (SELECT min(run) FROM xrpl_ledgers WHERE {where})"
        " GROUP BY ledger_index"
    ))  # fmt: skip
    return rows[0] if rows else {}


def _coins(
    xrp: dict[str, Any], ledgers: Any, state: dict[str, Any], history: Any, where: str
) -> dict[str, Verdict]:
    """Is all XRP there? From genesis and from a whole starting state absolutely, else from the run's start.

    Absolutely: every drop of total_coins stands on a known account, nothing is unseen; from genesis
    total_coins and what is burnt are 10^17 drops as well.
    """
    names = ("xrp_conserved", "xrp_conserved_from_start", "fees_equal_fall_of_total_coins")
    whole = {"starting_state_whole": bool(state["whole"]) if state else NOT_APPLICABLE}
    if xrp["total_coins"] is None or xrp["unseen"] is None:
        return {**dict.fromkeys(names, NOT_APPLICABLE), **whole}
    conserved = xrp["in_books"] + xrp["unseen"] == xrp["total_coins"]
    genesis = ledgers["first_run"] == 1 and ledgers["runs"] == 1
    absolute = genesis or (bool(state) and ledgers["runs"] == 1)
    all_seen = conserved and xrp["unseen"] == 0
    start = GENESIS_DROPS if genesis else int(state["total_coins"]) if state else 0
    fees = next(history.query(
        f"SELECT sum(fees) AS burnt, any(run_coins) AS coins FROM xrpl_ledgers WHERE {where}"
        f" AND run = (SELECT max(run) FROM xrpl_ledgers WHERE {where})"
    ))  # fmt: skip
    return {
        "xrp_conserved": all_seen and xrp["total_coins"] + xrp["burnt"] == start
        if absolute
        else NOT_APPLICABLE,
        "xrp_conserved_from_start": NOT_APPLICABLE if absolute else bool(conserved),
        "fees_equal_fall_of_total_coins": fees["coins"] - fees["burnt"] == xrp["total_coins"],
        **whole,
    }


def _gas_equals_burn(balances: list[AccountBalance], chain: str, history: Any, where: str) -> Verdict:
    """Sum of all gas reports = what fee legs brought to FEE_BURN."""
    gas = next(history.query(f"SELECT sum(toInt256(fee)) AS fees FROM gas_ledger WHERE {where}"))["fees"]
    adjusted = next(history.query(
        f"SELECT sum(toInt256(amount)) AS drops FROM transfers WHERE {where} AND asset = '{native_key(chain)}'"
        f" AND credit_code = {int(AccountCode.FEE_BURN)} AND transaction_index = -1"
    ))["drops"]  # fmt: skip
    return int(gas) + int(adjusted) == _net(balances, AccountCode.FEE_BURN, native=native_key(chain))


def _books_equal_ledger(balances: list[AccountBalance], chain: str, history: Any, where: str) -> Verdict:
    """Each balance in the books = the last absolute balance that the ledger's metadata told."""
    held = {(b.asset, b.owner): b.units for b in balances if b.code == AccountCode.HOLDER and not b.subject}
    for row in history.query(
        "SELECT account, asset, argMax(balance, (ledger_index, transaction_index)) AS last"
        f" FROM balance_changes WHERE {where} GROUP BY account, asset"
    ):
        asset, balance = row["asset"], row["last"]
        whole = asset == NATIVE or asset.startswith("mpt:")
        units = int(balance) if whole else quantise(balance)
        if held.get((f"{chain}/{asset}", row["account"]), 0) != units:
            return False
    return True


def books_equal_history(balances: list[AccountBalance], history: Any, chain_number: int) -> Verdict:
    """Each account in TigerBeetle = the sum of its transfers in ClickHouse."""
    question = exports.accounts(chain_number)
    sums = {
        b[:4]: b.units for b in exports.account_balances(history.query(question.sql, question.parameters))
    }
    return all(sums.get(b[:4], 0) == b.units for b in balances) and len(sums) == len(balances)
