"""What tests in several folders share."""

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.support.kafka import Kafka, kafka_cluster, wipe

# The same examples in every run, however slow the machine: a failure here is a failure everywhere.
settings.register_profile("tidebook", deadline=None, derandomize=True, database=None, print_blob=True)
settings.load_profile("tidebook")

_ID_MAX = 80


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name a long value by its place: as an id nobody reads it, and workers must agree on every id.

    (A packed body carries the second of its packing: two workers that collected in different seconds had
    different tests.)
    """
    return argname if isinstance(val, bytes | str) and len(val) > _ID_MAX else None


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
