"""`decode evm` against the expected values of all recorded EVM data: every transfer, fee and event, exact."""

import gzip
import io
import json
import re
from pathlib import Path

import pytest

from pipeline.decode_evm_command import decode_evm_files
from pipeline.domain.decode.evm_abi import events_of_abi

DATA = Path(__file__).parents[1] / "data" / "evm"
SHARED = Path(__file__).parents[3] / "shared" / "data" / "evm"
FOLDERS = [DATA, *([SHARED] if SHARED.is_dir() else [])]
FILES = [path for folder in FOLDERS for path in sorted([*folder.glob("blocks/*"), *folder.glob("cases/*")])]
ZERO = "0x" + "0" * 40


def decode(path):
    out = io.StringIO()
    status = decode_evm_files([path], out)
    return status, [json.loads(line) for line in out.getvalue().splitlines()]


def recorded(path):
    content = path.read_bytes()
    return json.loads(gzip.decompress(content) if path.suffix == ".gz" else content)


def key(transfer):
    return tuple(transfer.get(name) for name in ("log_index", "contract", "from", "to", "token_id", "amount"))


def wanted_key(one):
    """A transfer of the expected values in our words; an ERC-721's amount is 1."""
    single = one["standard"] == "ERC721"
    token_id = one.get("token_id", one["value"] if single else None)
    amount = "1" if single else one["value"]
    return one["log_index"], one["token"], one["from"], one["to"], token_id, amount


def files_with(*names):
    """The recordings that expect one of these."""
    found = [
        path for path in FILES if any(recorded(path)["expected"].get(name) is not None for name in names)
    ]
    return pytest.mark.parametrize("path", found, ids=lambda path: f"{path.parents[3].name}-{path.name}")


@files_with("receipts")
def test_receipts(path):
    """Fees, gas and status of every expected receipt; its token transfers, all and no other but wraps."""
    expected = recorded(path)["expected"]["receipts"]
    _, rows = decode(path)
    found = {row["hash"]: row for row in rows}
    assert found.keys() == {one["tx_hash"] for one in expected}
    for one in expected:
        row = found[one["tx_hash"]]
        assert row["status"] == one["status"]
        assert row["gas_used"] == one["gas_used"]
        assert row["effective_gas_price"] == one["effective_gas_price"]
        assert row["fee"] == one.get("total_fee_wei")
        assert row["blob_fee"] == one.get("blob_fee_wei")
        assert len(row["logs"]) == one["log_count"]
        if "burnt_wei" in one:
            assert (row["burnt"], row["tip"]) == (one["burnt_wei"], one["miner_tip_wei"])
        moved = [of for of in row["transfers"] if of["standard"] != "weth"]
        assert sorted(map(key, moved), key=str) == sorted(
            map(wanted_key, one.get("token_transfers", [])), key=str
        )


@files_with("token_transfers", "token_transfers_that_remain")
def test_transfers(path):
    expected = recorded(path)["expected"]
    wanted = expected.get("token_transfers", expected.get("token_transfers_that_remain"))
    status, rows = decode(path)
    assert status == (1 if expected.get("error") else 0)
    moved = [(row["hash"], *key(one)) for row in rows for one in row.get("transfers", [])]
    for one in wanted:
        one.setdefault("tx_hash", rows[0]["hash"])
    assert moved == [(one["tx_hash"], *wanted_key(one)) for one in wanted]
    if expected.get("log_count") is not None:
        assert sum(len(row["logs"]) for row in rows) == expected["log_count"]


@files_with("token_transfers_etl")
def test_transfers_of_the_etl(path):
    """ethereum-etl's own output: no ERC-1155, no wraps, the token id of an ERC-721 as its value."""
    wanted = recorded(path)["expected"]["token_transfers_etl"]
    _, rows = decode(path)
    moved = [
        (
            row["hash"],
            one["log_index"],
            one["contract"],
            one["from"],
            one["to"],
            one["token_id"] or one["amount"],
        )
        for row in rows
        for one in row["transfers"]
        if one["standard"] in ("erc20", "erc721")
    ]
    names = ("transaction_hash", "log_index", "token_address", "from_address", "to_address", "value")
    of_etl = [tuple(int(one[name]) if name == "log_index" else one[name] for name in names) for one in wanted]
    assert sorted(moved) == sorted(of_etl)


@pytest.mark.parametrize("folder", FOLDERS, ids=str)
def test_the_mainnet_block(folder):
    path = folder / "blocks" / "17173049.json.gz"
    expected = recorded(path)["expected"]
    status, rows = decode(path)
    assert status == 0
    assert [row["transaction_index"] for row in rows] == list(range(expected["block"]["tx_count"]))
    assert sum(len(row["logs"]) for row in rows) == expected["block"]["log_count"]
    assert sum(int(row["burnt"]) for row in rows) == int(expected["block"]["burnt_wei"])
    assert sum(int(row["gas_used"]) for row in rows) == int(expected["block"]["gas_used"])
    wraps = [
        (row["hash"], one["log_index"], one["from"], one["to"], one["amount"])
        for row in rows
        for one in row["transfers"]
        if one["standard"] == "weth"
    ]
    assert wraps == [
        (
            one["tx_hash"],
            one["log_index"],
            *((ZERO, one["account"]) if one["kind"] == "deposit" else (one["account"], ZERO)),
            one["value"],
        )
        for one in expected["weth_wraps"]
    ]
    failed = [
        (row["hash"], row["fee_payer"], row["gas_used"], row["fee"]) for row in rows if row["status"] == 0
    ]
    assert failed == [
        (one["tx_hash"], one["from"], one["gas_used"], one["execution_fee_wei"])
        for one in expected["failed_transactions"]
    ]


def test_an_l1_fee_comes_on_top():
    path = DATA / "cases" / "optimism_ecotone_receipt.json"
    (row,) = decode(path)[1]
    expected = recorded(path)["expected"]
    assert (row["l1_fee"], row["fee"]) == (expected["l1_fee_wei"], expected["total_fee_wei"])
    assert row["burnt"] is None


def test_empty_answers_print_nothing():
    for name in (
        "rpc_eth_getBlockReceipts_get-block-receipts-empty",
        "rpc_eth_getTransactionReceipt_get-notfound-tx",
    ):
        assert decode(DATA / "cases" / f"{name}.json") == (0, [])
    assert decode(DATA / "cases" / "etl_block_with_withdrawals.json") == (0, [])


def test_an_error_answer_is_told():
    path = DATA / "cases" / "rpc_eth_getLogs_filter-error-reversed-block-range.json"
    status, (row,) = decode(path)
    assert status == 1
    assert row == {
        "error": "the node answered with an error: invalid block range params (-32602)",
        "file": str(path),
        "hash": None,
    }


def vectors():
    return [(n, one) for n, one in enumerate(recorded(DATA / "event_vectors.json.gz")["vectors"])]


def plain(kind, value):
    """An expected value of the vectors as `EvmArg.value` has it: they write numbers in hex, signs before."""
    if isinstance(value, list):
        if kind.endswith("]"):
            kinds = [kind[: kind.rindex("[")]] * len(value)
            return [plain(of, each) for of, each in zip(kinds, value, strict=True)]
        raise AssertionError(kind)
    if isinstance(value, bool):
        return "true" if value else "false"
    if kind.startswith(("uint", "int")):
        return str(int(value, 16))
    return value.lower() if kind != "string" else value


@pytest.mark.parametrize(
    ("number", "vector"), vectors(), ids=lambda one: str(one) if isinstance(one, int) else ""
)
def test_event_vectors(number, vector):
    """Made-up events of all types, through a declared ABI; indexed dynamic values are known by hash only."""
    given, expected = vector["input"], vector["expected"]
    (event,) = events_of_abi([given["event"]])
    assert given["event"]["anonymous"] or event.topic0 == given["topics"][0]
    args = event.decode(given["topics"], given["data"])
    canonical = [re.sub(r"^(u?int)(?!\d)", r"\g<1>256", kind) for kind in expected["types"]]
    assert [arg["type"] for arg in args] == canonical
    assert [arg["hashed"] for arg in args] == expected["only_a_hash_is_known"]
    for arg, value in zip(args, expected["values"], strict=True):
        wanted = value if arg["hashed"] else plain(arg["type"], value)
        if not isinstance(wanted, str):
            wanted = json.dumps(wanted, separators=(",", ":"), ensure_ascii=False)
        assert arg["value"] == wanted
