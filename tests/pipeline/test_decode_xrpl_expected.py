"""Every recorded transaction of tests/data/xrpl and, where it is, of ../shared/data/xrpl, in every shape,
decodes to exactly the values expected there: npm xrpl `getBalanceChanges` (xrpl-py
agrees) and @bithomp/xrpl-api for NFTs and MPTs.
"""

import gzip
import json
from collections import Counter
from decimal import Decimal, localcontext
from pathlib import Path

import pytest

from pipeline.domain.decode.xrpl import decode_ledger, decode_transaction

TESTS = Path(__file__).parents[1]
SHARED = TESTS.parents[1] / "shared" / "data" / "xrpl"
ROOTS = [root for root in (TESTS / "data" / "xrpl", SHARED) if root.is_dir()]

# (folder of the recording, folder of the expected values)
LEDGER_FOLDERS = (
    ("ledgers", "ledgers"),
    ("ledgers_v2", "ledgers"),
    ("ledgers_2013", "ledgers_2013"),
    ("ledgers_2013_v2", "ledgers_2013"),
    ("ledgers_modern", "ledgers_modern"),
    ("ledgers_modern_v2", "ledgers_modern"),
    ("ledgers_modern_v2", "ledgers_modern_v2"),
    ("ledgers_binary", "ledgers_modern_v2"),
)

# Transactions whose MPT values differ from the expected ones: what we say (holder: (change, locked change);
# issuance, as None: change of outstanding; rows that did not change are left out) and why. @bithomp/xrpl-api
# takes a field missing from PreviousFields as "was 0"; conservation says that it is unchanged, or reversed:
# sum of the holders' changes of (amount + locked) = change of (outstanding - confidential outstanding).
# Proof in docs/decisions/0002-xrpl-effects.md.
DOUBTFUL = {
    # Convert moves 100 from the holder's public amount into confidential; outstanding is a required field.
    "ConfidentialMPTConvert": {"rfd4TdoYLvpTsNz6dRm7iZgmwfZMhW9xgK": (-100, 0)},
    "ConfidentialMPTConvertBack": {"rnhEwrTvijKEVC36DbkeijNQKAztVfCM7M": (200, 0)},
    # Confidential balances only: the issuance is not touched, so the public amounts sum to no change.
    "ConfidentialMPTMergeInbox": {},
    "ConfidentialMPTSend": {},
    "ConfidentialMPTSendWithCredentialIDs": {},
    # Escrow moves 1 between amount and locked; outstanding stays 100.
    "EscrowCreate_test_MPT_amount": {"rDtpgHpsUFu2dHC6fMZnwgZvNEDZ9MG9YK": (-1, 1)},
    "EscrowCancel_EscrowCancel_having_MPT_escrowed": {"r4ipomC348PqM2rGSBmhfRPXUH6CzKS1XJ": (1, -1)},
    "EscrowFinish_EscrowFinish_having_MPT_escrowed": {
        "rDtpgHpsUFu2dHC6fMZnwgZvNEDZ9MG9YK": (0, -1),
        "rHVkbnz2ZLVUCPugCbLsXbCsayrJARLq1N": (1, 0),
    },
    # The holder's entry is created with 10; the expected values give its amount, but no change of it.
    "VaultDeposit": {"rsuz1RpQHqLXnMqtPuP7qWFpccTKN651VK": (10, 0), None: 10},
}


def load(path):
    data = path.read_bytes()
    return json.loads(gzip.decompress(data) if path.suffix == ".gz" else data)


def place(root):
    return "shared" if root == SHARED else "tests"


def ledgers():
    for root in ROOTS:
        for folder, expected in LEDGER_FOLDERS:
            for path in sorted((root / folder).glob("*.json.gz")):
                facts = root / "expected" / expected / (path.name.removesuffix(".json.gz") + ".json")
                if facts.exists():
                    yield pytest.param(path, facts, id=f"{place(root)}/{folder}/{path.name.split('.')[0]}")


def transactions():
    for root in ROOTS:
        for name in ("transactions", "transactions_modern"):
            for key, facts in load(root / "expected" / f"{name}.json").items():
                yield pytest.param(root.parent / key, facts, id=f"{place(root)}/{name}/{Path(key).stem}")


def balance_changes(record):
    """Counter-like {(account, asset): Decimal}, XRP in drops, MPT left out; a doubled row fails."""
    rows = [row for row in record["balance_changes"] if not row["asset"].startswith("mpt:")]
    changes = {(row["account"], row["asset"]): Decimal(row["change"]) for row in rows}
    assert len(changes) == len(rows)
    return changes


def expected_balance_changes(facts):
    changes = {}
    for row in facts["balance_changes"]:
        issuer = row.get("issuer")
        asset = f"{row['currency']}.{issuer}" if issuer else "XRP"
        value = Decimal(row["value"]) * (1 if issuer else 10**6)
        changes[row["account"], asset] = value
    return changes


def nft_changes(record):
    owners = Counter()
    for row in record["nft_changes"]:
        owners[row["from_owner"], "removed", row["nft_id"]] += row["from_owner"] is not None
        owners[row["to_owner"], "added", row["nft_id"]] += row["to_owner"] is not None
    return +owners


def expected_nft_changes(facts):
    return Counter(
        (owner, item["status"], item["nftokenID"])
        for owner, items in facts.get("nftoken_changes", {}).items()
        for item in items
        if item["status"] in ("added", "removed")
    )


def mpt_changes(record):
    """{(issuance, holder): (change, locked change), (issuance, None): outstanding change}, zeros left out."""
    changes = {}
    for row in record["mpt_changes"]:
        assert not row["ambiguous"]
        key = row["issuance"], row["account"]
        assert key not in changes
        if row["account"] is None:
            changes[key] = int(row["outstanding_change"])
        else:
            changes[key] = int(row["change"]), int(row["locked_change"])
    return {key: value for key, value in changes.items() if value not in (0, (0, 0))}


def expected_mpt_changes(facts):
    changes = {}
    for issuance, holders in facts.get("mptoken_changes", {}).items():
        for holder, item in holders.items():
            change = tuple(int(item.get(name, 0)) for name in ("amountChange", "lockedAmountChange"))
            changes[issuance, holder] = change
    for issuance, item in facts.get("mptoken_issuance_changes", {}).items():
        changes[issuance, None] = int(item.get("outstandingAmountChange", 0))
    return {key: value for key, value in changes.items() if value not in (0, (0, 0))}


def check_mpts(record, facts, name):
    changes = mpt_changes(record)
    balances = {
        (row["asset"].removeprefix("mpt:"), row["account"]): int(row["change"])
        for row in record["balance_changes"]
        if row["asset"].startswith("mpt:")
    }
    holders = {key: value[0] for key, value in changes.items() if key[1] is not None and value[0]}
    assert balances == holders
    if name in DOUBTFUL:
        assert {account: value for (_, account), value in changes.items()} == DOUBTFUL[name]
        assert changes != expected_mpt_changes(facts), "no longer doubtful"
    else:
        assert changes == expected_mpt_changes(facts)


def check_rows(record):
    """What every row must satisfy by itself: change = balance - previous, and no row without a change."""
    with localcontext(prec=400):
        for row in record["balance_changes"]:
            assert Decimal(row["change"]) == Decimal(row["balance"]) - Decimal(row["previous"]) != 0
            for name in ("change", "previous", "balance"):
                assert "e" not in row[name].lower()
                assert row[name] == f"{Decimal(row[name]):f}"
                assert "." not in row[name] or not row[name].endswith("0")


def check_native(record, facts):
    """Accounts + escrows + channels = -fee."""
    accounts = sum(int(row["change"]) for row in record["balance_changes"] if row["asset"] == "XRP")
    held = sum(
        int(row["held_after"]) - int(row["held_before"])
        for row in record["object_changes"]
        if row["held_asset"] == "XRP"
    )
    if "xrp" in facts:
        assert str(accounts) == facts["xrp"]["accounts_delta_drops"]
        assert str(held) == facts["xrp"]["escrow_paychan_delta_drops"]
        assert str(record["fee"]) == facts["xrp"]["fee_drops"]
        assert facts["xrp"]["balanced"]
    assert accounts + held == -record["fee"]
    assert record["unexplained"] == 0


def check(record, facts, name=""):
    assert record["error"] is None
    assert (record["type"], record["result"]) == (facts["type"], facts["result"])
    assert balance_changes(record) == expected_balance_changes(facts)
    assert nft_changes(record) == expected_nft_changes(facts)
    check_mpts(record, facts, name)
    check_rows(record)
    check_native(record, facts)


@pytest.mark.parametrize(("path", "facts"), list(ledgers()))
def test_ledger(path, facts):
    facts = load(facts)
    header, records = decode_ledger(load(path))
    assert header["ledger_index"] == facts["ledger_index"]
    if header["ledger_hash"]:
        assert header["ledger_hash"] == facts["ledger_hash"]
        assert header["parent_hash"] == facts["parent_hash"]
        assert str(header["total_coins"]) == facts["total_coins_after"]
        if "close_time" in facts:
            assert header["close_time"] == (facts["close_time"] + 946684800) * 1000
    assert [record["hash"] for record in records] == [one["hash"] for one in facts["transactions"]]
    assert sum(record["fee"] for record in records) == int(facts["fees_burned_drops"])
    for record, one in zip(records, facts["transactions"], strict=True):
        assert record["transaction_index"] == one["index"]
        assert record["account"] == one["account"]
        check(record, one)


@pytest.mark.parametrize(("path", "facts"), list(transactions()))
def test_transaction(path, facts):
    record = decode_transaction(load(path))
    assert record["hash"] == (facts["hash"] or "")
    check(record, facts, path.stem)


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data/xrpl is not here")
def test_all_are_there():
    """1,184 transactions and the 7 of ledger 15202439, each counted once whatever its shapes."""
    facts = [load(parameters.values[1])["transactions"] for parameters in ledgers()]
    hashes = {one["hash"] for transactions_ in facts for one in transactions_}
    singles = {
        parameters.values[0].relative_to(parameters.values[0].parents[1]) for parameters in transactions()
    }
    assert len(hashes) + len(singles) == 1184 + 7
