"""The registry: one row per event type, with the pure functions that say what it means.

Agents and tools are driven by these rows; a new event type is one schema, one row here with its
functions, and one golden case. Rows of ClickHouse are told by the schema's own `clickhouse` attribute.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from pipeline.domain.applications.apps import Apps
from pipeline.domain.applications.event import Emit
from pipeline.domain.applications.observe import (
    evm_observations,
    ledger_observations,
    state_observations,
)
from pipeline.domain.block_facts import BlockFacts, evm_facts, ledger_facts, state_facts
from pipeline.domain.changes import asset_changes, gas_charges
from pipeline.domain.evm_changes import evm_asset_changes, evm_gas_charges
from pipeline.domain.posting.evm import post_evm_block
from pipeline.domain.posting.legs import Postings
from pipeline.domain.posting.xrpl import post_ledger
from pipeline.domain.posting.xrpl_state import post_state
from pipeline.domain.state_changes import state_asset_changes
from schemas.records import AssetChanges, GasCharges


@dataclass(frozen=True, slots=True)
class EventType:
    """What one topic's messages mean."""

    topic: str
    facts: Callable[[Any], BlockFacts] | None = None  # of block-shaped messages: where each stands
    postings: Callable[[Any], Postings] | None = None  # what it asks of the books
    asset_changes: Callable[[Any], list[AssetChanges]] | None = None  # what it changes of assets
    gas_charges: Callable[[Any], list[GasCharges]] | None = None  # who paid fees
    observations: Callable[[Any, Apps], list[Emit]] | None = None  # what it says to the applications
    history: bool = True  # kept in ClickHouse, by the tables that its schema names


CATALOG: Final[tuple[EventType, ...]] = (
    EventType(
        "xrpl.ledgers.v1",
        facts=ledger_facts,
        postings=post_ledger,
        asset_changes=asset_changes,
        gas_charges=gas_charges,
        observations=ledger_observations,
    ),
    EventType(
        "xrpl.states.v1",
        facts=state_facts,
        postings=post_state,
        asset_changes=state_asset_changes,
        observations=state_observations,
    ),
    EventType(
        "evm.blocks.v1",
        facts=evm_facts,
        postings=post_evm_block,
        asset_changes=evm_asset_changes,
        gas_charges=evm_gas_charges,
        observations=evm_observations,
    ),
    EventType("evm.contracts.v1"),
    EventType("assets.changes.v1"),
    EventType("books.transfers.v1"),
    EventType("books.accounts.v1"),
    EventType("gas.charges.v1", history=False),  # for consumers; gas_ledger is filled from the sources
    EventType("assets.activity.v1"),
    EventType("positions.events.v1"),
    EventType("tokens.events.v1"),
    EventType("anchors.events.v1"),
    EventType("chain.outbox.v1"),
    EventType("applications.outcomes.v1"),
    EventType("applications.states.v1"),
    EventType("chains.verdicts.v1"),
    EventType("control.alerts.v1"),
    EventType("quarantine.v1"),
)


def with_postings() -> dict[str, Callable[[Any], Postings]]:
    """Topic → posting rule, of the topics that the books read."""
    return {row.topic: row.postings for row in CATALOG if row.postings is not None}


def of_history() -> list[str]:
    """Topics whose messages are kept in ClickHouse."""
    return [row.topic for row in CATALOG if row.history]
