"""One filled data directory for all tests of the reports; its port answers as that of `tidebook up` does."""

import json
import os
from collections.abc import Iterator

import pytest

from tests.support.report_scene import ReportScene, report_scene


@pytest.fixture(scope="package")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReportScene]:
    pytest.importorskip("chdb")
    folder = tmp_path_factory.mktemp("reports")
    with report_scene(folder) as made:
        told = {"pid": os.getpid(), "clickhouse_url": made.world.port.url, "kafka_url": "127.0.0.1:1"}
        (folder / "up.json").write_text(json.dumps(told))
        yield made
