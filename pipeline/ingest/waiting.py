"""Waiting for news without missing them."""

from __future__ import annotations

import asyncio
import contextlib


async def within(event: asyncio.Event, seconds: float) -> None:
    """Until the event is set, at most so long."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
