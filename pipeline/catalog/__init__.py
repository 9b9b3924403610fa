"""The registry: one row per event type, with the pure functions that say what it means.

Agents and tools are driven by these rows; a new event type is one schema, one row here with its functions, and one
golden case. `chains` has the topics whose messages are blocks and what is derived of them; the applications' event
types stand in `assets`, `positions`, `tokens` and `anchors`. Rows of ClickHouse are told by the schema's own
`clickhouse` attribute.
"""

from typing import Final

from pipeline.catalog.anchors import ANCHORS
from pipeline.catalog.assets import ASSETS
from pipeline.catalog.chains import CATALOG, EventType, of_history, with_postings
from pipeline.catalog.positions import POSITIONS
from pipeline.catalog.tokens import TOKENS
from pipeline.domain.applications.event import AppTopic

APPLICATIONS: Final[tuple[AppTopic, ...]] = (ASSETS, POSITIONS, TOKENS, ANCHORS)

__all__ = ["APPLICATIONS", "CATALOG", "EventType", "of_history", "with_postings"]
