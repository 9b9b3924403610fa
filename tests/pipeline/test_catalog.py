"""The registry's rows fit their schemas: every block-shaped message has its facts."""

from __future__ import annotations

import random

import pytest

from pipeline.catalog import CATALOG
from schemas.loader import by_topic
from tests.schemas.avro_samples import random_value

ROWS = [row for row in CATALOG if row.facts is not None]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.topic)
def test_facts_are_read_of_any_record(row) -> None:
    record = random_value(by_topic()[row.topic].resolution, random.Random(1))
    facts = row.facts(record)
    assert (facts.chain, facts.chain_number, facts.run) == (
        record["chain"],
        record["chain_number"],
        record["run"],
    )
    assert facts.step.number == facts.number


def test_what_is_posted_or_changes_assets_has_facts() -> None:
    assert all(row.facts for row in CATALOG if row.postings or row.asset_changes or row.gas_charges)
