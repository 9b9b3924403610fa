"""What tests in several folders share."""

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.support.kafka import Kafka, kafka_cluster, wipe

# The same examples in every run, however slow the machine: a failure here is a failure everywhere.
settings.register_profile("tidebook", deadline=None, derandomize=True, database=None, print_blob=True)
settings.load_profile("tidebook")


@pytest.fixture(scope="session")
def kafka_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """One Apache Kafka for all tests of this process; those that use it are of xdist_group("kafka")."""
    with kafka_cluster(tmp_path_factory.mktemp("kafka") / "cluster") as cluster:
        yield cluster


@pytest.fixture
def kafka(kafka_server: Kafka) -> str:
    """Its address, with no topic on it."""
    asyncio.run(wipe(kafka_server.url))
    return kafka_server.url
