"""`tidebook proof` over a history: from any row of either chain to a file that proves it, and every way it can't."""

from __future__ import annotations

import gzip
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pipeline import proof_make_command
from pipeline.cli import app
from pipeline.domain import proof
from pipeline.domain.decode.evm import Chain, block_record, decode_block
from pipeline.domain.decode.evm_contracts import UNDECLARED, Contracts, contract
from pipeline.domain.decode.xrpl import decode_ledger
from pipeline.domain.proof_errors import Contradiction
from pipeline.domain.proof_form import write
from pipeline.proof_source import NoSource, Wanted, differences, find_row, make_proof
from tests.pipeline.test_evm_proof import case
from tests.pipeline.test_xrpl_proof import standalone
from tests.support.history import history, ledger, message
from tests.support.proof_reader import read_proof

pytestmark = pytest.mark.xdist_group("proofs")  # one fixture for them all

BLOCKS = "evm.blocks.v1"
WHOLE = {"mainnet-1755635": "eip155:1", "test-54": "eip155:3503995874084926"}
PART = "anvil-types"  # of which the history keeps three transactions
WATCHED = "0x70997970c51812dc3a010c7d01b50e0d17dc79c8"
LEDGERS = [answer for answer in standalone() if answer["ledger"]["transactions"]][-2:]


def _ledgers(chain: str, number: int, changed: bool = False) -> list[Any]:
    found = []
    for answer in LEDGERS:
        header, transactions = decode_ledger(answer)
        if changed:
            transactions[0]["fee"] += 1
        found.append(ledger(header["ledger_index"], transactions, **header, chain=chain, chain_number=number))
    return found


def _block(name: str, chain: str, number: int, finality: Any = "final", rules: Chain | None = None) -> Any:
    told = case(name)
    contracts = UNDECLARED
    if rules is not None:
        logs = [log for receipt in told["receipts"] for log in receipt["logs"]]
        contracts = Contracts([contract(logs[-1]["address"], "erc20")])
    of = decode_block(told["block"], told["receipts"], contracts, rules or Chain(burns=True))
    return block_record(
        chain, number, *of, run=1, finality=finality, incarnation=0, was_head=finality != "head"
    )


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A history of some ledgers and blocks, open for all tests: opening is what costs."""
    rules = Chain(burns=True, watched_addresses=frozenset({WATCHED}))
    lost = _ledgers("xrpl:lost", 4)[0]
    lost["transactions"].pop()
    others = [*_ledgers("xrpl:two", 2)[:1], *_ledgers("xrpl:wrong", 3, changed=True)[:1], lost]
    blocks = [_block(name, chain, 10 + at) for at, (name, chain) in enumerate(WHOLE.items())]
    blocks.append(_block(PART, "eip155:31337", 20, rules=rules))
    blocks += [_block("anvil-deposit", "eip155:10", 30, finality) for finality in ("head", "retracted")]
    with history(tmp_path_factory.mktemp("proof") / "clickhouse") as sink:
        sink.write("e", [message(one, at) for at, one in enumerate([*_ledgers("xrpl:one", 1), *others])])
        sink.write("e", [message(one, at, BLOCKS) for at, one in enumerate(blocks)])
        sink.flush()
        yield sink


class Reading:
    """The open history as the command opens it."""

    def __init__(self, sink: Any) -> None:
        self.query = sink.query

    def close(self) -> None:
        """It stays open."""


@pytest.fixture
def make(opened: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """`tidebook proof make` on the open history: its exit status, output and errors."""
    monkeypatch.setattr(proof_make_command, "open_reading", lambda _: Reading(opened))
    (tmp_path / "clickhouse").mkdir()
    return lambda *arguments: run("make", *arguments, "--data-dir", tmp_path)


def run(*arguments: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["proof", *map(str, arguments)])
    return done.exit_code, done.stdout, done.stderr


def check(*arguments: object) -> tuple[int, str, str]:
    return run("check", *arguments)


def rows(sink: Any, sql: str) -> list[dict[str, Any]]:
    return list(sink.query(sql))


def made(sink: Any, wanted: Wanted) -> tuple[dict[str, Any], bytes]:
    """What the proof of a row tells, and the file."""
    row = find_row(sink, wanted)
    content = write(make_proof(sink, row, wanted))
    told = proof.check(content)
    assert differences(row, told) == []
    assert read_proof(content)
    return told, content


def test_every_row_of_a_ledger_is_what_the_ledger_holds(opened: Any) -> None:
    kept = rows(opened, "SELECT hash, fee, result FROM xrpl_transactions WHERE chain_number = 1")
    assert len(kept) == sum(len(answer["ledger"]["transactions"]) for answer in LEDGERS)
    for row in kept:
        told, _ = made(opened, Wanted(row["hash"], "xrpl:one"))
        assert (told["fee"], told["result"]) == (row["fee"], row["result"])
        held = rows(opened, f"SELECT account, asset, change, previous, balance FROM balance_changes WHERE "
                    f"chain_number = 1 AND hash = '{row['hash']}' ORDER BY row_number")  # fmt: skip
        assert told["balance_changes"] == held


def test_every_row_of_a_block_is_what_the_block_holds(opened: Any) -> None:
    numbers = range(10, 10 + len(WHOLE))
    for number in numbers:
        kept = rows(
            opened,
            f"SELECT hash, status, toString(fee) AS fee FROM evm_transactions WHERE chain_number = {number}",
        )
        assert kept
        for row in kept:
            told, _ = made(opened, Wanted(row["hash"]))
            assert (told["status"], told["gas_fee"]) == (row["status"], row["fee"])
            logs = rows(opened, "SELECT log_index, contract, topics, data FROM evm_logs WHERE "
                        f"hash = '{row['hash']}' ORDER BY log_index")  # fmt: skip
            assert [tuple(log[name] for name in ("contract", "topics", "data")) for log in told["logs"]] == [
                (log["contract"], log["topics"], log["data"]) for log in logs
            ]
            for log in logs[-1:]:
                stated = made(opened, Wanted(row["hash"], log=log["log_index"]))[0]["log"]
                assert (stated["contract"], stated["data"]) == (log["contract"], log["data"])


def test_what_is_not_there_has_no_proof(opened: Any) -> None:
    name = LEDGERS[0]["ledger"]["transactions"][0]["hash"]
    with pytest.raises(NoSource, match=r"on chains xrpl:.*one, xrpl:.*: name one with --chain"):
        find_row(opened, Wanted(name))
    with pytest.raises(NoSource, match="not in the history of chain xrpl:0; chain xrpl:"):
        find_row(opened, Wanted(name, "xrpl:0"))
    with pytest.raises(NoSource, match=r"not in the history$"):
        find_row(opened, Wanted("00" * 32))


def test_a_row_that_was_changed_shows(opened: Any) -> None:
    """The figures beside the transaction's bytes are held against what the bytes say."""
    record = decode_ledger(LEDGERS[0])[1][0]
    wanted = Wanted(record["hash"], "xrpl:wrong")
    row = find_row(opened, wanted)
    told = proof.check(write(make_proof(opened, row, wanted)))
    assert differences(row, told) == [f"fee is {record['fee'] + 1}, proven is {record['fee']}"]


def test_the_commands(make: Any, tmp_path: Path) -> None:
    """Made with a data directory, checked without: the file alone proves the row."""
    header, records = decode_ledger(LEDGERS[-1])
    name, out = records[0]["hash"], tmp_path / "proof.json"
    status, shown, said = make(name.lower(), "--chain", "xrpl:one", "--out", out)
    assert (status, shown) == (0, "") and f"block {header['ledger_index']} of xrpl:one" in said
    status, shown, _ = check(out, "--json", "--block-hash", header["ledger_hash"])
    assert status == 0 and json.loads(shown)["balance_changes"] == records[0]["balance_changes"]
    status, shown, _ = check(out)
    assert status == 0 and header["ledger_hash"] in shown and "yours to know" in shown
    status, shown, said = check(out, "--block-hash", "0x" + header["parent_hash"])
    assert (status, shown) == (1, "") and "leads to block" in said and said.count("\n") == 1
    out.write_bytes(out.read_bytes().replace(b'"metadata": "', b'"metadata": "00'))
    status, _, said = check(out, "--json")
    assert status == 1 and said.startswith("tidebook: ") and said.count("\n") == 1


def test_a_changed_row_is_refused_by_the_command(make: Any) -> None:
    name = decode_ledger(LEDGERS[0])[1][0]["hash"]
    status, shown, said = make(name, "--chain", "xrpl:wrong")
    assert (status, shown) == (1, "") and "is not what the block holds: fee is" in said


def test_wrong_calls(make: Any, tmp_path: Path) -> None:
    name = decode_ledger(LEDGERS[0])[1][0]["hash"]
    for arguments in (["12"], ["0x" + "zz" * 32], [name, "--log", 0],
                      [name, "--receipts", tmp_path / "x.json"]):  # fmt: skip
        assert make(*arguments)[0] == 2
    status, _, said = make(name, "--chain", "xrpl:one", "--out", tmp_path / "no" / "x")
    assert status == 2 and "--out" in said
    assert check(tmp_path / "nothing.json")[0] == 2
    assert check(tmp_path)[0] == 2
    (tmp_path / "x.json").write_text("{}")
    assert check(tmp_path / "x.json", "--block-hash", "12")[0] == 2
    assert check(tmp_path / "x.json") == (1, "", f"tidebook: {tmp_path / 'x.json'}: proves nothing: it is no object "
                                          'with "format": "tidebook-proof"\n')  # fmt: skip
    status, _, said = run("make", name, "--data-dir", tmp_path / "empty")
    assert status == 1 and "--data-dir" in said


def test_a_dropped_block_is_told(make: Any) -> None:
    name = case("anvil-deposit")["receipts"][0]["transactionHash"]
    status, shown, said = make(name)
    assert status == 0 and json.loads(shown)["kind"] == "evm" and "dropped this block" in said


# A block of which the history has only what was watched


def part() -> tuple[dict[str, Any], str, int]:
    """Its answers, a transaction of it that the history keeps, and a log of that."""
    told = case(PART)
    receipt = next(one for one in reversed(told["receipts"]) if one["logs"])
    return told, receipt["transactionHash"], int(receipt["logs"][-1]["logIndex"], 16)


def test_a_block_in_part_needs_a_source(make: Any) -> None:
    status, shown, said = make(part()[1])
    assert (status, shown) == (1, "") and said.count("\n") == 1
    assert (
        "it keeps 5 of 8 transactions" in said and "--receipts FILE" in said and "TIDEBOOK_EVM_CONFIG" in said
    )


def test_a_recorded_file_gives_the_block(make: Any, tmp_path: Path) -> None:
    told, name, log = part()
    file = tmp_path / "block.json.gz"
    file.write_bytes(gzip.compress(json.dumps([told["block"], told["receipts"]]).encode()))
    status, shown, _ = make(name, "--log", log, "--receipts", file)
    assert status == 0 and proof.check(shown.encode(), told["block"]["hash"])["hash"] == name
    assert proof.check(shown.encode())["log"]["topics"]
    file.write_text(json.dumps(told["receipts"]))  # without the transactions: the receipt alone
    status, shown, said = make(name, "--receipts", file)
    assert status == 0 and proof.check(shown.encode(), told["block"]["hash"])["hash"] is None
    assert "of the receipt alone" in said
    told["receipts"][0]["logs"][0]["data"] = "0x" + "bb" * 32
    for wrong in (
        json.dumps([told["block"], told["receipts"]]),
        "[",
        "[" * 200_000,
        "{}",
        json.dumps(told["receipts"][:3]),
    ):
        file.write_text(wrong)
        status, shown, said = make(name, "--receipts", file)
        assert (status, shown) == (1, "") and said.count("\n") == 1, wrong[:50]


@pytest.fixture
def node() -> Iterator[tuple[str, dict[str, Any]]]:
    """The URL of a node that has one block, and what it answers by method."""
    told = case(PART)
    answers = {
        "eth_chainId": hex(31337), "eth_getBlockByNumber": told["block"], "eth_getBlockByHash": told["block"],
        "eth_getBlockReceipts": told["receipts"],
    }  # fmt: skip

    class Node(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            one_or_many = [self.said(one) for one in asked] if isinstance(asked, list) else self.said(asked)
            body = json.dumps(one_or_many).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def said(self, request: Any) -> Any:
            return {"jsonrpc": "2.0", "id": request["id"], "result": answers[request["method"]]}

        def log_message(self, *_: Any) -> None:
            """Silent."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Node)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", answers
    server.shutdown()
    server.server_close()


def test_a_node_gives_the_block(opened: Any, tmp_path: Path, node: Any) -> None:
    told, name, log = part()
    url, answers = node
    config = tmp_path / "evm.toml"
    config.write_text(
        f'[[chain]]\nname = "eip155:31337"\nurls = ["{url}"]\nstart_block = 1\nwatched = ["{WATCHED}"]\n'
    )
    wanted = Wanted(name, log=log, evm_config=config)
    assert made(opened, wanted)[0]["block_hash"] == told["block"]["hash"]
    answers["eth_getBlockReceipts"] = [{**one, "status": "0x0"} for one in told["receipts"]]
    with pytest.raises(Contradiction, match="receiptsRoot"):
        made(opened, wanted)
    answers["eth_getBlockByHash"] = None
    with pytest.raises(NoSource, match=r"no node of eip155:31337 gives block 1: .*null"):
        made(opened, wanted)
    config.write_text(config.read_text().replace("eip155:31337", "eip155:5"))
    with pytest.raises(NoSource, match="has no chain eip155:31337"):
        made(opened, wanted)


def test_a_history_that_lost_a_transaction_proves_nothing(make: Any) -> None:
    _, records = decode_ledger(LEDGERS[0])
    status, _, said = make(records[0]["hash"], "--chain", "xrpl:lost")
    assert status == 1 and f"{len(records) - 1} of {len(records)} transactions of ledger" in said
