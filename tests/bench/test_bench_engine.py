"""The benchmark of the engines runs, small, and its figures are there."""

from __future__ import annotations

import pytest

from tests.bench import bench_engine


def test_small_run_without_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TIGERBEETLE_ADDRESSES", raising=False)
    monkeypatch.setattr(bench_engine.shutil, "which", lambda _: None)
    monkeypatch.setattr(bench_engine, "MILLION", 20_000)
    figures = bench_engine.run(growth=40_000)
    assert figures["transfers"] == 40_000
    assert figures["embedded_rising_ids_transfers_per_s"] > 0
    assert {f"embedded_rising_ids_million_{n}_transfers_per_s" for n in (1, 2)} <= figures.keys()
    assert figures["cluster"].startswith("none")
