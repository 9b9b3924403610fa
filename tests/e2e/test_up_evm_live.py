"""`tidebook up` and `tidebook lag` on a real EVM node: a chain that grows, reorganises and becomes final."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipeline.supervisor import free_port
from tests.support.anvil import Anvil, anvil_node, missing
from tests.support.demo import tidebook

pytestmark = [
    pytest.mark.xdist_group("demo"),
    pytest.mark.skipif(missing() is not None, reason=missing() or ""),
]

WAIT_S = 240.0
CHAIN = """
[[chain]]
name = "eip155:{id}"
urls = ["{url}"]
start_block = 0
everything = true
final_depth = 0
poll_s = 0.1
burns = true
"""


@contextmanager
def up(data_dir: Path, config: Path) -> Iterator[subprocess.Popen[str]]:
    env = {**os.environ, "TIDEBOOK_EVM_CONFIG": str(config), "TIDEBOOK_API_PORT": str(free_port())}
    for name in ("TIDEBOOK_KAFKA_URL", "TIDEBOOK_XRPL_URLS"):
        env.pop(name, None)
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline.cli", "up", "--data-dir", str(data_dir)],
        env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def lag(data_dir: Path) -> dict[str, Any]:
    ended = tidebook("lag", "--json", "--data-dir", data_dir)
    return json.loads(ended.out) if ended.out else {"healthy": None, "chains": [], "said": ended.err}


def until(met: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + WAIT_S
    while not (found := met()):
        assert time.monotonic() < deadline, f"{what}: {lag.last if hasattr(lag, 'last') else ''}"
        time.sleep(0.3)
    return found


def applied(data_dir: Path, anvil: Anvil) -> dict[str, Any]:
    """The report of lag once every stage stands at the node's newest block and no role has messages before it."""

    def met() -> dict[str, Any] | None:
        report = lag.last = lag(data_dir)  # type: ignore[attr-defined]
        stages = {
            name: stage and stage["block"]
            for chain in report["chains"]
            for name, stage in chain["stages"].items()
        }
        wanted = dict.fromkeys(("head", "ingested", "books", "state", "history"), anvil.number())
        behind = any(role["behind"] for role in report.get("roles", []))
        return report if stages == {**wanted, "final": anvil.number("finalized")} and not behind else None

    return until(met, "every stage at the head")


def test_up_follows_and_lag_tells_every_stage(tmp_path):
    with anvil_node(tmp_path / "node", slots_in_an_epoch=2) as anvil:
        config, data_dir = tmp_path / "evm.toml", tmp_path / "data"
        config.write_text(CHAIN.format(id=anvil.chain_id, url=anvil.url))
        anvil.mine(12)
        with up(data_dir, config) as process:
            until(lambda: process.poll() is not None or (data_dir / "up.json").exists(), "up.json")
            assert process.poll() is None, process.communicate()
            report = applied(data_dir, anvil)
            assert report["healthy"] and report["problems"] == [], report["unhealthy"]
            assert [chain["chain"] for chain in report["chains"]] == [f"eip155:{anvil.chain_id}"]
            assert {role["role"]: role["behind"] for role in report["roles"]} == {
                "books": 0, "assets": 0, "history": 0
            }  # fmt: skip
            anvil.reorg(3)
            anvil.mine(5)
            applied(data_dir, anvil)
            table = tidebook("lag", "--data-dir", data_dir)
            assert f"eip155:{anvil.chain_id}" in table.out and "final" in table.out
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=WAIT_S)
        assert process.returncode == 0, err
        assert f"eip155:{anvil.chain_id} block {anvil.number()} (final {anvil.number('finalized')}" in out
        assert "ledger" not in out  # no XRPL chain was played
        assert not (data_dir / "up.json").exists()
        stood = "SELECT block_hash FROM evm_blocks WHERE finality != 'retracted' ORDER BY block_number"
        rows = tidebook("query", stood, "--json", "--data-dir", data_dir).rows
        assert [row["block_hash"] for row in rows] == [
            anvil.block(number)["hash"] for number in range(anvil.number() + 1)
        ]
