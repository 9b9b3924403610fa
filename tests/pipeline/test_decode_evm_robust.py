"""Recordings that are cut off, broken or made up: errors in their place, never a crash; blocks are refused."""

import gzip
import io
import json
import random
from pathlib import Path

import pytest

from pipeline.decode_evm_command import decode_evm_files
from pipeline.domain.decode.evm import Chain, block_record, decode_block
from pipeline.domain.decode.evm_contracts import UNDECLARED
from pipeline.domain.decode.xrpl_errors import RecordedError
from schemas.codec import local_codec

CODEC = local_codec()
DATA = Path(__file__).parents[1] / "data" / "evm"
BLOCK = DATA / "blocks" / "17173049.json.gz"
ODD = (
    None,
    True,
    -1,
    1.5,
    2**300,
    "",
    "x",
    "0xzz",
    "0x1",
    [],
    [1],
    {},
    {"a": 1},
    [None],
    [{}],
    "0x" + "f" * 64,
)


def decode(*paths):
    out = io.StringIO()
    status = decode_evm_files(paths, out)
    return status, [json.loads(line) for line in out.getvalue().splitlines()]


def recorded():
    return json.loads(gzip.decompress(BLOCK.read_bytes()))["input"]


def small():
    """The first three transactions of the mainnet block."""
    answers = recorded()
    block = {
        **answers["eth_getBlockByNumber"],
        "transactions": answers["eth_getBlockByNumber"]["transactions"][:3],
    }
    return {"eth_getBlockByNumber": block, "eth_getBlockReceipts": answers["eth_getBlockReceipts"][:3]}


def spoil(value, chance):
    """The value with one random node replaced by something odd, or left out."""
    node, parent, key = value, None, None
    while isinstance(node, dict | list) and node and (parent is None or chance.random() < 0.85):
        parent, key = node, chance.choice(list(node) if isinstance(node, dict) else range(len(node)))
        node = node[key]
    if parent is None:
        return
    if chance.random() < 0.2:
        del parent[key]
    else:
        parent[key] = chance.choice(ODD)


@pytest.mark.parametrize("seed", range(8))
def test_spoilt_answers_are_errors_or_rows(seed, tmp_path):
    chance, file = random.Random(seed), tmp_path / "spoilt.json"
    for _ in range(60):
        answers = small()
        for _ in range(chance.randint(1, 3)):
            spoil(answers, chance)
        file.write_text(json.dumps(answers))
        status, rows = decode(file)
        assert status == int(any("error" in row for row in rows))


@pytest.mark.parametrize("seed", range(8))
def test_spoilt_blocks_are_refused_or_whole(seed):
    chance = random.Random(seed)
    for _ in range(60):
        answers = small()
        spoil(answers, chance)
        try:
            header, found = decode_block(
                answers["eth_getBlockByNumber"],
                answers["eth_getBlockReceipts"],
                UNDECLARED,
                Chain(burns=True),
            )
        except (RecordedError, KeyError) as error:
            assert not isinstance(error, KeyError) or len(answers) < 2
        else:
            assert header["transaction_count"] == len(found)
            record = block_record(
                "eip155:1", 1, header, found, run=1, finality="head", incarnation=0, was_head=False
            )
            assert CODEC.encode("evm.blocks.v1", record)


def test_shapes_that_say_the_same(tmp_path):
    """By method or bare, whole answers or results, in a batch or a line each, gzipped or not: the same rows."""
    answers = small()
    block, receipts = answers["eth_getBlockByNumber"], answers["eth_getBlockReceipts"]
    whole = [{"jsonrpc": "2.0", "id": n, "result": of} for n, of in enumerate((block, receipts))]
    shapes = {
        "methods": json.dumps(answers),
        "input": json.dumps({"note": "", "input": answers, "expected": {}}),
        "answers": json.dumps(dict(zip(answers, whole, strict=True))),
        "batch": json.dumps(whole),
        "lines": "\n".join(json.dumps(one) for one in whole),
        "pretty": json.dumps(answers, indent=1),
        "bare": "\n".join(json.dumps(one) for one in (block, *receipts)),
        "block": json.dumps({"block": block, "receipts": receipts}),
    }
    wanted = None
    for name, content in shapes.items():
        file = tmp_path / f"{name}.json"
        file.write_bytes(gzip.compress(content.encode()) if name == "lines" else content.encode())
        status, rows = decode(file)
        assert status == 0 and len(rows) == 3, name
        wanted = wanted or rows
        assert rows == wanted, name


def test_several_blocks_of_a_file_keep_apart(tmp_path):
    one = small()
    text = json.dumps(one)
    other = text.replace(one["eth_getBlockByNumber"]["hash"], "0x" + "ee" * 32).replace(
        '"0x1060a39"', '"0x1060a3a"'
    )
    file = tmp_path / "two.jsonl"
    file.write_text(f"{text}\n{other}\n")
    _, rows = decode(file)
    assert [(row["block_number"], row["transaction_index"]) for row in rows] == [
        (number, index) for number in (17173049, 17173050) for index in range(3)
    ]


def test_broken_files(tmp_path):
    cut = tmp_path / "cut.json.gz"
    cut.write_bytes(BLOCK.read_bytes()[:5000])
    text = tmp_path / "text.json"
    text.write_text('{"eth_getBlockReceipts": [{"gasUsed"')
    empty = tmp_path / "empty.json"
    empty.write_text("")
    other = tmp_path / "other.json"
    other.write_text('{"something": "else"}')
    status, rows = decode(
        cut, text, empty, other, tmp_path / "none.json", DATA / "cases" / "alloy_receipt_0.json"
    )
    assert status == 1
    assert [row["file"] for row in rows[:5]] == [
        str(of) for of in (cut, text, empty, other, tmp_path / "none.json")
    ]
    assert all(row["error"] for row in rows[:5]) and "error" not in rows[5]


def test_a_broken_log_spoils_its_transaction_only(tmp_path):
    answers = small()
    answers["eth_getBlockReceipts"][1]["logs"][0]["topics"] = ["0x12"]
    file = tmp_path / "one.json"
    file.write_text(json.dumps(answers))
    status, rows = decode(file)
    assert status == 1
    assert [row.get("transaction_index") for row in rows if "error" not in row] == [0, 2]
    (error,) = (row for row in rows if "error" in row)
    assert error["hash"] == answers["eth_getBlockReceipts"][1]["transactionHash"]
