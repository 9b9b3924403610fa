"""The registry's rows fit their schemas: every block-shaped message has its facts."""

from __future__ import annotations

import random

import pytest

from pipeline.catalog import APPLICATIONS, CATALOG
from pipeline.domain.applications.event import AppEvent, Refusal
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


NEW = {
    "assets": ["ASSET_REGISTERED", "USER_REGISTERED"],
    "positions": [
        "INSTITUTION_REGISTERED", "ASSET_TEMPLATE_REGISTERED", "POSITION_ASSET_REGISTERED", "POSITION_CREATED",
    ],
    "tokens": ["ACCOUNT_OPENED"],
    "anchors": ["AUTHORIZED"],
}  # fmt: skip
"""Types whose key is a new id that reads name by their path."""


@pytest.mark.parametrize(("domain", "type"), [(domain, type) for domain in NEW for type in NEW[domain]])
@pytest.mark.parametrize("id", ["a/b", ".", "..", "events"])
def test_a_new_id_can_be_read_by_its_path(domain: str, type: str, id: str) -> None:
    (row,) = (row for row in APPLICATIONS if row.domain == domain)
    entry = row.types[type].entry
    assert entry is not None
    with pytest.raises(Refusal) as caught:
        entry(AppEvent(row.topic, "e", type, id, 0, {}))
    assert (caught.value.reason, caught.value.field) == ("bad_id", row.key)
