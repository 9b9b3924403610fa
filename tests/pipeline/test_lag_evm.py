"""Lag of EVM chains: the topmost block told by messages that take blocks back, the head told by their nodes."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.domain.branch import Branch, Step
from pipeline.domain.lag import FINAL, HEAD, INGESTED, Limits, State, follow, report
from pipeline.domain.lag_look import Group, Look, Mark, Said, Tip, Verdict
from pipeline.ingest.evm.config import ConfigError, read_config
from pipeline.lag.evm_heads import evm_heads
from pipeline.lag.reader import BLOCKS, Reader
from pipeline.lag.watch import find_target
from pipeline.running import UP_FILE
from pipeline.settings import read_settings
from schemas.codec import local_codec
from tests.pipeline.test_recorded_evm import EvmLine, made, recorded

CHAIN = "eip155:5"
PLACE = (BLOCKS, 3)
CODEC = local_codec()


def told(number: int, finality: str, branch: str = "a", was_head: bool = True) -> Said:
    return Said(Mark(CHAIN, number, 1000 + number, f"{branch}{number}"), finality, was_head, f"p{number}")


def tip(*messages: Said) -> tuple[int, str] | None:
    """Of messages in the order in which they were published."""
    found = Tip()
    for one in reversed(messages):
        found.read(one)
        if found.found is not None:
            break
    mark = found.found or found.least
    return (mark.block, mark.hash) if mark else None


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([told(7, "final", was_head=False)], (7, "a7")),
        ([told(7, "head"), told(8, "head")], (8, "a8")),
        ([told(7, "head"), told(8, "head"), told(7, "final")], (8, "a8")),
        ([told(7, "head"), told(7, "final")], (7, "a7")),
        ([told(7, "head"), told(8, "head"), told(8, "retracted")], (7, "a7")),
        ([told(7, "head"), told(8, "head"), told(8, "retracted"), told(7, "final")], (7, "a7")),
        ([told(8, "head"), told(8, "retracted"), told(8, "head", "b")], (8, "b8")),
        ([told(6, "final", was_head=False), told(7, "head"), told(7, "retracted")], (6, "a6")),
        ([told(8, "retracted"), told(7, "retracted")], (6, "p7")),
        ([told(7, "final")], (7, "a7")),
        ([], None),
    ],
)
def test_the_topmost_block_is_read_from_the_newest_messages(messages, expected):
    assert tip(*messages) == expected


@pytest.mark.parametrize("seed", range(40))
def test_it_is_the_topmost_of_the_branch_after_every_message(seed):
    """A chain that grows, is reorganised and finalised at random, told as the ingest tells it."""
    chance, branch, said = random.Random(seed), Branch(), list[Said]()
    standing: list[tuple[int, str, bool]] = []  # unfinal ones
    number = names = 0
    while len(said) < 60:
        if chance.random() < 0.2 and not standing:
            number, names = number + 1, names + 1
            step = (number, f"{names:016x}", "final", False)
        elif chance.random() < 0.25 and standing:
            lost = standing.pop()
            number, step = lost[0] - 1, (lost[0], lost[1], "retracted", True)
        elif chance.random() < 0.3 and standing:
            lowest = standing.pop(0)
            step = (lowest[0], lowest[1], "final", True)
        else:
            number, names = number + 1, names + 1
            standing.append((number, f"{names:016x}", True))
            step = (number, f"{names:016x}", "head", True)
        run = step[0] if branch.tip is None else -1
        one = Step(step[0], step[1], None, step[2], 0, run=run)
        branch.judge(one)
        branch.take(one)
        said.append(Said(Mark(CHAIN, step[0], 1000 + step[0], step[1]), step[2], step[3], "?"))
        if branch.tip is not None:
            assert tip(*said)[0] == branch.tip[0]
            assert tip(*said)[1] in (branch.tip[1], "?")


def look(at: float, committed: int, end: int, head: int | None, **verdict: Any) -> Look:
    """Books behind offset `committed` of a chain whose offset n holds block n."""
    group = Group("books", "tidebook-books", (PLACE,), {PLACE: committed}, 1)
    marks = {number: Mark(CHAIN, number, 1000 * number) for number in (committed - 1, end - 1)}
    outcome = {"outcome": "verified", "block": 4, "last_block": 4, "verified_up_to": 4, "gaps": 0} | verdict
    return Look(
        at=at, now=1_000_000, ends={PLACE: (0, end)}, groups=(group,), last={PLACE: marks[end - 1]},
        applied={("tidebook-books", PLACE): marks[committed - 1]},
        verdicts=(Verdict(CHAIN, time=4000, block_hash="0x4", **outcome),),
        heads={CHAIN: Mark(CHAIN, head, 1000 * head)} if head is not None else {},
    )  # fmt: skip


def chain_of(*looks: Look):
    moves: dict = {}
    for one in looks:
        moves = follow(moves, one)
    (found,) = report(looks[-1], moves, Limits(), looks[0].at).chains
    return found


def test_the_last_final_block_is_a_stage_of_its_own():
    one = chain_of(look(0, 8, 10, 12))
    assert [*one.stages] == [HEAD, INGESTED, FINAL, "books"]
    assert {stage: mark.block for stage, mark in one.stages.items()} == {
        HEAD: 12, INGESTED: 9, FINAL: 4, "books": 7
    }  # fmt: skip
    assert (one.behind(one.stages[FINAL]), one.behind(one.stages["books"])) == ((8, 8.0), (5, 5.0))
    assert one.state == State.CATCHING_UP
    assert chain_of(look(0, 8, 10, 12, outcome="missing")).stages[FINAL] is None
    assert chain_of(look(0, 10, 10, 9)).state == State.OK
    assert chain_of(look(0, 10, 10, 12), look(70, 10, 10, 14)).state == State.STALLED


class Kafka:
    """One partition whose offset n holds message n."""

    def __init__(self, values: list[bytes]) -> None:
        self.values = values

    async def at(self, wanted):
        return {
            (topic, partition, offset): SimpleNamespace(value=self.values[offset], timestamp=5)
            for topic, partition, offset in wanted
        }


def values(tmp_path, *steps: tuple[int, str, bool]) -> list[bytes]:
    from pipeline.ingest.chains import Chain

    line = EvmLine(Chain(5, CHAIN, tmp_path / "c", partition=3), lambda record: CODEC.encode(BLOCKS, record))
    records = {one.block["block_number"]: one.block for one in line.blocks(recorded(*map(made, range(1, 9))))}
    return [
        CODEC.encode(BLOCKS, {**records[number], "finality": finality, "was_head": was_head})
        for number, finality, was_head in steps
    ]


def test_ingested_and_applied_are_read_from_the_messages_themselves(tmp_path):
    stored = values(
        tmp_path, (1, "final", False), (2, "head", False), (3, "head", False), (3, "retracted", True),
        (3, "head", False), (4, "head", False), (2, "final", True),
    )  # fmt: skip
    reader = Reader(Kafka(stored), None, CODEC)
    expected = [1, 2, 3, 2, 3, 4, 4]
    ends = {PLACE: (0, len(stored))}
    for end, block in enumerate(expected, 1):
        (mark,) = asyncio.run(reader._last({PLACE: (0, end)})).values()
        assert (mark.chain, mark.block, mark.time) == (CHAIN, block, 1000 * (1_700_000_000 + block))
        group = Group("books", "g", (PLACE,), {PLACE: end}, 1)
        assert asyncio.run(reader._applied([group], ends))["g", PLACE] == mark


# Heads, of nodes


@contextmanager
def node(answer: Callable[[str, list[Any]], Any]) -> Iterator[str]:
    """A JSON-RPC node over HTTP; what `answer` raises is HTTP 500, text it gives is the body as it stands."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            try:
                result = answer(asked["method"], asked["params"])
            except ZeroDivisionError:
                self.send_error(500)
                return
            told = result if isinstance(result, str) and result.startswith("<") else json.dumps(
                {"jsonrpc": "2.0", "id": asked["id"], "result": result}
            )  # fmt: skip
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(told.encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/key-in-path"
    finally:
        server.shutdown()
        server.server_close()


def honest(method: str, params: list[Any], chain_id: int = 5) -> Any:
    """Newest block 100, safe 80, finalized 60."""
    if method == "eth_chainId":
        return hex(chain_id)
    number = {"latest": 100, "safe": 80, "finalized": 60}.get(params[0]) or int(params[0], 16)
    return {"number": hex(number), "timestamp": hex(2 * number), "hash": f"0x{number:064x}"}


def config(tmp_path, *urls: str, **more: Any):
    path = tmp_path / "evm.toml"
    lines = [f"{name} = {json.dumps(value)}" for name, value in {"urls": list(urls), **more}.items()]
    path.write_text(
        "\n".join(["[[chain]]", f'name = "{CHAIN}"', "everything = true", "start_block = 0", *lines])
    )
    return path


def asked(tmp_path, *urls: str, **more: Any):
    return asyncio.run(evm_heads(read_config(config(tmp_path, *urls, **more), {}), timeout_s=60.0))


@pytest.mark.parametrize(
    ("more", "block"),
    [
        ({}, 100),
        ({"confirmation": "safe", "final_depth": 0}, 80),
        ({"confirmation": "finalized", "final_depth": 0}, 60),
        ({"confirmation": "finalized", "final_depth": 50}, 50),
        ({"finality": "depth", "final_depth": 30}, 100),
    ],
)
def test_the_head_is_what_the_ingest_is_to_read(tmp_path, more, block):
    with node(honest) as url:
        found, problems = asked(tmp_path, url, **more)
    assert problems == []
    assert (found[CHAIN].block, found[CHAIN].time) == (block, 2000 * block)
    assert "key-in-path" not in found[CHAIN].source


def test_the_first_address_that_answers_is_believed_and_the_others_say_why_not(tmp_path):
    liars = [
        lambda method, params: 1 / 0,
        lambda method, params: "<html>busy</html>",
        lambda method, params: honest(method, params, chain_id=6),
        lambda method, params: None,
        lambda method, params: hex(5) if method == "eth_chainId" else {"number": "x", "timestamp": "0x1"},
    ]
    with (
        node(liars[0]) as a,
        node(liars[1]) as b,
        node(liars[2]) as c,
        node(liars[3]) as d,
        node(liars[4]) as e,
    ):
        gone = "http://127.0.0.1:1/key-in-path"
        with node(honest) as url:
            found, problems = asked(tmp_path, gone, a, b, c, d, e, url)
            assert found[CHAIN].block == 100
        assert len(problems) == 6 and "it is of chain" in problems[3]
        assert all("\n" not in line and "key-in-path" not in line for line in problems), problems
        found, problems = asked(tmp_path, a, c)
        assert found == {} and len(problems) == 2


def test_without_a_file_nobody_is_asked(tmp_path):
    assert asyncio.run(evm_heads({})) == ({}, [])


def test_the_file_of_the_settings_or_of_what_runs_names_the_nodes(tmp_path, monkeypatch):
    import os

    for name in ("TIDEBOOK_KAFKA_URL", "TIDEBOOK_EVM_CONFIG", "TIDEBOOK_XRPL_URLS"):
        monkeypatch.delenv(name, raising=False)
    path = config(tmp_path, "http://127.0.0.1:1")
    target = find_target(read_settings(data_dir=tmp_path, kafka_url="127.0.0.1:1", evm_config=path))
    assert [*target.evm] == [CHAIN]
    told = {"pid": os.getpid(), "kafka_url": "127.0.0.1:2", "xrpl_urls": "", "evm_config": str(path)}
    (tmp_path / UP_FILE).write_text(json.dumps(told))
    target = find_target(read_settings(data_dir=tmp_path))
    assert [*target.evm] == [CHAIN] and target.problems == ()
    path.write_text("[[chain]]\nname = 5")
    target = find_target(read_settings(data_dir=tmp_path))
    assert target.evm == {} and "TIDEBOOK_EVM_CONFIG" in target.problems[0]
    with pytest.raises(ConfigError, match="TIDEBOOK_EVM_CONFIG"):
        find_target(read_settings(data_dir=tmp_path, evm_config=path))
