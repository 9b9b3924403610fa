"""The assets role: block effects → assets.changes.v1 and gas.charges.v1 → the table of holdings.

What blocks say to the applications (pipeline.domain.applications.observe) is told beside them, to the one order that
each application topic is.

Two steps, because a Faust table is written only from a topic that has the table's key and partition
count: chain effects go to assets.changes.v1 first, and the holdings are folded from there. A batch is
folded before it is written: one write per key, every value with the last position it has seen. Blocks that
may be taken back are derived in every state; the fold keeps what is not final apart.
"""

from __future__ import annotations

import asyncio
from typing import Any

from pipeline.agents.role import Done, Epochs, Message, Place
from pipeline.catalog import CATALOG
from pipeline.domain.applications.apps import NO_APPS, Apps
from pipeline.domain.holdings import Holding, as_of_head, exists, fold
from schemas.codec import Codec, WireError
from topics.envelope import outgoing
from topics.producer import Outgoing

CHANGES = "assets.changes.v1"


class AssetsRole:
    """Consumer group `assets`."""

    name = "assets"
    batch_max = 256
    batch_wait_s = 0.05

    def __init__(self, codec: Codec, partitions: int, apps: Apps = NO_APPS) -> None:
        self._codec, self._partitions, self._apps = codec, partitions, apps
        self._epochs: Epochs = {}
        self._rules = {row.topic: row for row in CATALOG if row.asset_changes or row.gas_charges}
        self.topics = (*self._rules, CHANGES)
        self.holdings: Any = None

    def declare(self, app: Any) -> None:
        """The table and its web views; before the app is finalised."""
        self.holdings = app.Table(
            "holdings",
            partitions=self._partitions,
            key_type=str,
            # no value_type: Faust 0.15 takes any class given for a model and then hangs in recovery
            use_partitioner=True,  # a batch spans partitions: the key's own hash decides, as at the source
            help="Current holding of each asset.",
        )
        declare_views(app, self.holdings)

    async def open(self, app: Any, epochs: Epochs) -> None:
        """No store to open: the table is the app's."""
        self._epochs = epochs

    def assigned(self, places: set[Place]) -> dict[Place, int]:
        """Nothing to forget: the table is recovered by Faust."""
        return {}

    async def close(self) -> None:
        """Nothing to close."""

    async def process(self, topic: str, batch: list[Message]) -> Done:
        if topic == CHANGES:
            return self._fold(batch)
        return await asyncio.to_thread(self._derive, topic, batch)

    def _derive(self, topic: str, batch: list[Message]) -> Done:
        done = Done()
        rule, last, transactions = self._rules[topic], -1, 0
        for message in batch:
            try:
                block = self._codec.decode(message.value)[1]
            except WireError:
                continue  # the books role has the source topic's undecodable messages quarantined
            done.outgoing += self._effects(rule, block)
            facts = rule.facts(block)
            last = facts.number
            transactions += facts.transactions
        done.counts = {"blocks": len(batch), "transactions": transactions}
        if last >= 0:
            done.counts = {**done.counts, "block": last}
        return done

    def _effects(self, rule: Any, block: Any) -> list[Outgoing]:
        found = []
        for record in rule.asset_changes(block) if rule.asset_changes else ():
            found.append(outgoing(self._codec, CHANGES, record["asset"], record))
        for record in rule.gas_charges(block) if rule.gas_charges else ():
            found.append(outgoing(self._codec, "gas.charges.v1", record["owner"], record))
        if self._apps and rule.observations is not None:
            told = rule.observations(block, self._apps)
            found += [outgoing(self._codec, emit.topic, emit.key, emit.record, partition=0) for emit in told]
        return found

    def _fold(self, batch: list[Message]) -> Done:
        """Fold the batch into the table: runs in the event loop, for the table is Faust's."""
        decoded = []
        for message in batch:
            try:
                decoded.append(
                    (
                        self._codec.decode(message.value)[1],
                        message.partition,
                        self._epochs[CHANGES],
                        message.offset,
                    )
                )
            except WireError as error:
                raise RuntimeError(f"{CHANGES}-{message.partition}@{message.offset}: {error}") from error
        before: dict[str, Holding] = {}
        for changes, *_ in decoded:
            held = self.holdings.get(changes["asset"])
            if held is not None:
                before[changes["asset"]] = held
        for asset, holding in fold(before, decoded).items():
            self.holdings[asset] = holding
        return Done(counts={"changes": sum(len(c["changes"]) for c, *_ in decoded)})


def declare_views(app: Any, holdings: Any) -> None:
    """`/holdings/`: how many, and the first thousand; `/holdings/one/?asset=KEY`: one asset.

    A row has the final facts, what is pending beside them, and `as_of_head`: the same with that applied. What only
    blocks that were taken back told of is not there.
    """

    @app.page("/holdings/")
    async def all_holdings(web: Any, request: Any) -> Any:
        kind, owner = request.query.get("kind"), request.query.get("owner")
        rows = [
            holding
            for holding in holdings.values()
            if exists(holding) and kind in (None, holding["kind"]) and owner in (None, holding["owner"])
        ]
        return web.json({"count": len(rows), "holdings": [_shown(holding) for holding in rows[:1000]]})

    @app.page("/holdings/one/")
    @app.table_route(table=holdings, query_param="asset")
    async def one_holding(web: Any, request: Any) -> Any:
        holding = holdings.get(request.query["asset"])
        if holding is None or not exists(holding):
            return web.json({"error": f"no holding of {request.query['asset']!r}"}, status=404)
        return web.json(_shown(holding))


def _shown(holding: Holding) -> dict[str, Any]:
    return {**holding, "as_of_head": as_of_head(holding)}
