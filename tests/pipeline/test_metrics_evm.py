"""Metrics of the EVM ingest: asked at each scrape, one series a chain and node."""

import pytest

from pipeline import metrics, metrics_evm
from pipeline.metrics import NodeFigures
from pipeline.metrics_evm import EvmFigures, show_evm


def samples():
    """(name, label values …) → value of everything that a scrape shows."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in metrics.REGISTRY.collect()
        for sample in family.samples
    }


@pytest.fixture(autouse=True)
def quiet():
    yield
    show_evm(None)


def test_chains_and_their_nodes_are_asked_at_each_scrape():
    chains = [
        EvmFigures(
            "eip155:1", latest=110, published=109, final=64, verified_up_to=60, unfinal=45, reorgs=2, deepest=3,
            retracted=4, behind_s=1.5, log_range=500, caught={"missing_log": 7},
            nodes=[NodeFigures("a:8545", True, 0.5, 12, {"timeout": 3}), NodeFigures("b", False, 0.0)],
        ),
        EvmFigures("eip155:10", -1, -1, -1, -1, too_deep=True, failed=True, nodes=[NodeFigures("b", True, 1.0)]),
    ]  # fmt: skip
    show_evm(lambda: chains)
    told = samples()
    stages = ("latest", "published", "final", "verified")
    assert [told["tidebook_evm_block", "eip155:1", stage] for stage in stages] == [110, 109, 64, 60]
    assert told["tidebook_evm_block", "eip155:10", "final"] == -1
    assert (
        told["tidebook_evm_reorgs_total", "eip155:1"],
        told["tidebook_evm_retracted_blocks_total", "eip155:1"],
    ) == (2, 4)
    assert told["tidebook_evm_reorg_depth_blocks_max", "eip155:1"] == 3
    assert told["tidebook_evm_unfinal_blocks", "eip155:1"] == 45
    assert told["tidebook_evm_caught_total", "eip155:1", "missing_log"] == 7
    assert told["tidebook_evm_log_range_blocks", "eip155:1"] == 500
    assert told["tidebook_evm_ingest_behind_seconds", "eip155:1"] == 1.5
    for name in ("tidebook_evm_reorg_too_deep", "tidebook_evm_ingest_failed"):
        assert (told[name, "eip155:1"], told[name, "eip155:10"]) == (0, 1)
    assert (
        told["tidebook_evm_node_up", "eip155:1", "b"],
        told["tidebook_evm_node_up", "eip155:10", "b"],
    ) == (0, 1)
    assert told["tidebook_evm_node_score", "eip155:1", "a:8545"] == 0.5
    assert told["tidebook_evm_node_requests_total", "eip155:1", "a:8545"] == 12
    assert told["tidebook_evm_node_errors_total", "eip155:1", "a:8545", "timeout"] == 3
    chains.pop()
    assert ("tidebook_evm_block", "eip155:10", "final") not in samples()
    show_evm(None)
    assert not [key for key in samples() if key[0].startswith("tidebook_evm_")]


def test_every_metric_is_explained_and_ends_in_its_unit():
    families = metrics_evm.evm_metrics([EvmFigures("eip155:1", 1, 1, 1, 1)])
    assert len({family.name for family in families}) == len(families) > 12
    assert all(len(family.documentation) > 10 and family.documentation.endswith(".") for family in families)
    assert not [family.name for family in families if family.name.endswith(("_ms", "_minutes", "_kb"))]
