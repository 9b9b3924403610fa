"""Bring a broker's topics to what the schemas declare: read, plan (pure, topics.plan), do."""

from collections.abc import Sequence

from topics import broker
from topics.plan import Action, AddPartitions, ChangeConfig, Create, Refuse, Topic, declared, plan


class TopicsRefused(RuntimeError):
    """The plan holds what a program must not do; nothing was changed. One line for each."""

    def __init__(self, refusals: Sequence[Refuse]) -> None:
        super().__init__("\n".join(map(str, refusals)))
        self.refusals = tuple(refusals)


async def plan_topics(url: str, chains: int) -> list[Action]:
    """What `apply_topics` would do on the broker at `url`. Raises broker.BrokerError, ValueError."""
    wanted = declared(chains)
    async with broker.admin_of(url) as admin:
        return plan(await broker.existing_topics(admin, _names(wanted)), wanted)


async def apply_topics(url: str, chains: int, replicas: int | None = None) -> list[Action]:
    """Create and change what is missing; the actions done, [] if all was there.

    `chains` is the number of partitions of topics with one per chain; `replicas` the replication factor of
    new topics, by default 3 or as many as there are brokers. Raises TopicsRefused before anything is changed,
    broker.BrokerError, ValueError.
    """
    wanted = declared(chains)
    async with broker.admin_of(url) as admin:
        actions = plan(await broker.existing_topics(admin, _names(wanted)), wanted)
        refusals = [action for action in actions if isinstance(action, Refuse)]
        if refusals:
            raise TopicsRefused(refusals)
        await broker.create(admin, [action for action in actions if isinstance(action, Create)], replicas)
        for action in actions:
            if isinstance(action, AddPartitions):
                await broker.add_partitions(admin, action)
            elif isinstance(action, ChangeConfig):
                await broker.change_config(admin, action)
    return actions


def _names(topics: Sequence[Topic]) -> list[str]:
    return [topic.name for topic in topics]
