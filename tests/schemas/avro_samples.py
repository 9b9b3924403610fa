"""Random records of any schema (seeded), and one realistic block of transactions; shared by the schema
tests."""

import random
from decimal import Decimal
from typing import Any

from schemas.exact import RANGES, names_of

HEX = "0123456789ABCDEF"
BASE58 = "rpshnaf39wBUDNEGHJKLM4PQRST7VWXYZ2bcdeCg65jkm8oFqi1tuvAxyz"
TEXTS = ["", "x", "é中😀", "\x00", "9999999999999999e80", "A" * 200]


def random_value(form: Any, rng: random.Random, names: dict[str, Any] | None = None) -> Any:
    """A random value of a plain or resolution form; numbers lean to the ends of their range."""
    names = names_of(form) if names is None else names
    if isinstance(form, list):
        return random_value(rng.choice(form), rng, names)
    if isinstance(form, str) and form in names:
        form = names[form]
    if isinstance(form, str):
        form = {"type": form}
    kind = form["type"]
    if form.get("logicalType") == "decimal":
        return Decimal(rng.randint(-(10**6), 10**6)).scaleb(-form.get("scale", 0))
    if kind in RANGES:
        low, high = RANGES[kind]
        return rng.choice([low, high, 0, -1, 63, 64, rng.randint(low, high), rng.randint(-1000, 1000)])
    simple = {
        "null": lambda: None,
        "boolean": lambda: rng.random() < 0.5,
        "string": lambda: rng.choice(TEXTS),
        "bytes": lambda: rng.randbytes(rng.choice([0, 1, 70])),
        "float": lambda: rng.choice([0.0, -0.5, 0.25]),
        "double": lambda: rng.choice([0.0, 1e300, 5e-324, rng.random()]),
        "enum": lambda: rng.choice(form["symbols"]),
        "fixed": lambda: rng.randbytes(form["size"]),
        "array": lambda: [random_value(form["items"], rng, names) for _ in range(rng.choice([0, 1, 3]))],
        "map": lambda: {f"k{n}": random_value(form["values"], rng, names) for n in range(rng.choice([0, 2]))},
        "record": lambda: {f["name"]: random_value(f["type"], rng, names) for f in form["fields"]},
    }
    return simple[kind]()


def block(transactions: int = 60, seed: int = 1) -> dict[str, Any]:
    """An XrplLedger of payments: 2 or 3 balance changes each, 700 bytes raw, as mainnet ledgers have on
    average."""
    rng = random.Random(seed)
    return {
        "chain": "xrpl:main",
        "chain_number": 0,
        "run": 90_000_000,
        "ledger_index": 90_000_001,
        "chunk": 0,
        "chunks": 1,
        "close_time": 1_700_000_000_000,
        "ledger_hash": _hex(rng, 64),
        "parent_hash": _hex(rng, 64),
        "transaction_hash": _hex(rng, 64),
        "account_hash": _hex(rng, 64),
        "total_coins": 99_985_687_626_634_189,
        "run_coins": 99_985_687_626_700_000,
        "close_time_resolution": 10,
        "close_flags": 0,
        "parent_close_time": 1_699_999_997_000,
        "gap_from": None,
        "gap_to": None,
        "transaction_count": transactions,
        "fees": 12 * transactions,
        "decoder_version": 1,
        "transactions": [_transaction(rng, index) for index in range(transactions)],
    }


def _hex(rng: random.Random, digits: int) -> str:
    return "".join(rng.choices(HEX, k=digits))


def _account(rng: random.Random) -> str:
    return "r" + "".join(rng.choices(BASE58, k=33))


def _transaction(rng: random.Random, index: int) -> dict[str, Any]:
    sender, receiver = _account(rng), _account(rng)
    return {
        "transaction_index": index,
        "hash": _hex(rng, 64),
        "type": "Payment",
        "result": "tesSUCCESS",
        "account": sender,
        "fee_payer": sender,
        "fee": 12,
        "sequence": rng.randrange(10**8),
        "destination": receiver,
        "memos": [],
        "balance_changes": [
            _balance_change(rng, who) for who in (sender, receiver, sender)[: rng.choice([2, 2, 3])]
        ],
        "nft_changes": [],
        "mpt_changes": [],
        "object_changes": [],
        "unexplained": 0,
        "unexplained_entry": None,
        "unexplained_type": None,
        "error": None,
        "raw": rng.randbytes(700),
    }


def _balance_change(rng: random.Random, account: str) -> dict[str, Any]:
    before, after = rng.randrange(10**12), rng.randrange(10**12)
    return {
        "account": account,
        "asset": "XRP",
        "change": str(after - before),
        "previous": str(before),
        "balance": str(after),
    }
