"""/metrics and /health: what they say, where, and what happens when the port is taken."""

import json
import socket
import urllib.error
import urllib.request

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from pipeline import metrics
from pipeline.domain.lag import ChainLag, Report, State
from pipeline.domain.lag_look import Mark, Verdict
from pipeline.lag_command import OLD_S, Health


def samples():
    """Everything that a scrape sees: (name, values of the labels in the order of their names) → value."""
    text = generate_latest(metrics.REGISTRY).decode()
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
def quiet():
    """Nothing of this test stays in the process's registry."""
    yield
    metrics.show_lag(None)
    metrics.show_nodes(list)


@pytest.fixture
def server():
    health = {"well": True}
    running = metrics.serve("127.0.0.1", 0, lambda: (health["well"], {"why": "test"}))
    yield running.port, health
    running.close()


def get(port, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["Content-Type"], error.read()


def test_health_is_200_or_503_with_the_reason(server):
    port, health = server
    status, kind, body = get(port, "/health")
    assert (status, kind, json.loads(body)) == (200, "application/json", {"healthy": True, "why": "test"})
    health["well"] = False
    status, _, body = get(port, "/health")
    assert (status, json.loads(body)["healthy"]) == (503, False)


def test_metrics_are_served_and_other_paths_are_not(server):
    port, _ = server
    status, kind, body = get(port, "/metrics")
    assert status == 200 and kind.startswith("text/plain")
    assert any(text_string_to_metric_families(body.decode()))
    assert get(port, "/")[0] == 404


def test_a_port_in_use_is_one_line_that_names_the_setting():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            metrics.MetricsError, match=rf"^setting TIDEBOOK_METRICS_PORT={port}: .*in use.*$"
        ):
            metrics.serve("127.0.0.1", port, lambda: (True, {}))


def test_progress_of_a_role_is_counted_and_its_block_is_a_level():
    before = samples()
    for block in (7, 9):
        metrics.role_progress("r1", 64, {"blocks": 2, "transfers": 5, "block": block, "messages": 64}, 0.2)
    after = samples()
    assert ("tidebook_role_batches_total", "r1") not in before
    assert after["tidebook_role_batches_total", "r1"] == 2
    assert after["tidebook_role_messages_total", "r1"] == 128
    assert after["tidebook_role_done_total", "transfers", "r1"] == 10
    assert ("tidebook_role_done_total", "messages", "r1") not in after
    assert after["tidebook_role_block", "r1"] == 9
    assert after["tidebook_role_batch_seconds_count", "r1"] == 2
    assert after["tidebook_role_last_progress_timestamp_seconds", "r1"] > 1.7e9


def test_the_ingest_tells_what_it_published_and_what_is_missing():
    metrics.ingest_published("xrpl:t", 3, 40, block=12, verified_up_to=11)
    metrics.ingest_latency("xrpl:t", 0.02)
    metrics.ingest_gap("xrpl:t", 3)
    told = samples()
    assert told["tidebook_ingest_ledgers_total", "xrpl:t"] == 3
    assert told["tidebook_ingest_transactions_total", "xrpl:t"] == 40
    assert told["tidebook_ingest_block", "xrpl:t"] == 12
    assert told["tidebook_ingest_verified_up_to_block", "xrpl:t"] == 11
    assert told["tidebook_ingest_publish_seconds_count", "xrpl:t"] == 1
    assert told["tidebook_ingest_gap_ledgers", "xrpl:t"] == 3
    metrics.ingest_gap("xrpl:t", 0)
    assert samples()["tidebook_ingest_gap_ledgers", "xrpl:t"] == 0


def test_nodes_are_asked_at_each_scrape(quiet):
    nodes = [
        metrics.NodeFigures("a:51233", True, 1.0, 10, {"timeout": 2}),
        metrics.NodeFigures("b", False, 0.0),
    ]
    metrics.show_nodes(lambda: nodes)
    told = samples()
    assert (told["tidebook_node_up", "a:51233"], told["tidebook_node_up", "b"]) == (1, 0)
    assert told["tidebook_node_score", "a:51233"] == 1
    assert told["tidebook_node_requests_total", "a:51233"] == 10
    assert told["tidebook_node_errors_total", "a:51233", "timeout"] == 2
    nodes.pop()
    assert ("tidebook_node_up", "b") not in samples()


def chain(state=State.OK, outcome="verified"):
    return ChainLag(
        "xrpl:0",
        {"head": Mark("xrpl:0", 20, 80_000), "ingested": Mark("xrpl:0", 18, 72_000), "books": None},
        Verdict("xrpl:0", outcome, 19, 21, 18, 1),
        state,
        "",
    )


def one(*chains, broken=()):
    return Report(0.0, (), chains, 2, 5, broken, ())


def test_a_chain_is_told_by_stage_and_vanishes_with_the_report(quiet):
    metrics.show_lag(one(chain(State.STALLED, "missing")))
    told = samples()
    assert told["tidebook_chain_block", "xrpl:0", "head"] == 20
    assert told["tidebook_chain_lag_blocks", "xrpl:0", "ingested"] == 2
    assert told["tidebook_chain_lag_seconds", "xrpl:0", "ingested"] == 8
    assert ("tidebook_chain_block", "xrpl:0", "books") not in told
    assert told["tidebook_gap_open_blocks", "xrpl:0"] == 3
    assert told["tidebook_gaps_accepted", "xrpl:0"] == 1
    assert told["tidebook_alert_messages",] == 5
    assert told["tidebook_healthy",] == 0
    metrics.show_lag(None)
    assert ("tidebook_chain_block", "xrpl:0", "head") not in samples()


def test_every_metric_of_ours_is_explained_and_ends_in_its_unit(quiet):
    metrics.show_lag(one(chain()))
    families = [family for family in metrics.REGISTRY.collect() if family.name.startswith("tidebook_")]
    assert len(families) > 25
    assert all(len(family.documentation) > 10 and family.documentation.endswith(".") for family in families)
    assert not [family.name for family in families if family.name.endswith(("_ms", "_minutes", "_kb"))]


def test_the_exporter_is_unhealthy_before_its_first_look_and_when_that_is_old(quiet):
    now = [100.0]
    health = Health(clock=lambda: now[0])
    assert health()[0] is False and health()[1]["unhealthy"] == ["no look at Kafka yet"]
    health.seen(one(chain()))
    assert health() == (
        True,
        {"unhealthy": [], "problems": [], "roles": {}, "chains": {"xrpl:0": "ok"}, "age_s": 0.0},
    )
    now[0] += OLD_S + 1
    well, told = health()
    assert not well and told["unhealthy"] == ["Kafka was last looked at 31 s ago"]
    health.seen(one(broken=("topic x is not on the broker",)))
    assert health()[0] is False and health()[1]["unhealthy"] == ["topic x is not on the broker"]
    health.failed("TIDEBOOK_KAFKA_URL=h:1: gone")
    assert health() == (False, {"unhealthy": ["TIDEBOOK_KAFKA_URL=h:1: gone"], "age_s": 0.0})
