"""What is to be applied, over the restart of a child."""

from pipeline.supervisor import Child, Supervisor


def test_what_a_child_published_before_it_was_replaced_still_counts(tmp_path):
    supervisor = Supervisor(tmp_path, {})
    before = Child(
        "ingest", None, {"produced": {"xrpl.ledgers.v1": {"0": 120}, "control.alerts.v1": {"1": 2}}}
    )
    supervisor.children["ingest"] = before
    supervisor.replace(Child("ingest", None, {"produced": {"xrpl.ledgers.v1": {"0": 7}}}))
    assert supervisor.targets() == {"xrpl.ledgers.v1": {"0": 120}, "control.alerts.v1": {"1": 2}}
