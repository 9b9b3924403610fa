"""How far a role is, told to whoever supervises it: JSON lines on stdout."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

import orjson


class Progress:
    """Tells the supervisor, as JSON lines on stdout, how far this role is."""

    def __init__(self, role: str, enabled: bool) -> None:
        self._role, self._enabled = role, enabled
        self._told = 0.0
        self.position: dict[str, dict[int, int]] = {}  # topic -> partition -> next offset
        self.produced: dict[str, dict[int, int]] = {}
        self.counts: dict[str, int] = {}
        self.block = -1
        self.busy: list[float] = []  # monotonic seconds: start of the first batch, end of the last

    def add(self, counts: Mapping[str, int]) -> None:
        for name, count in counts.items():
            if name == "block":
                self.block = max(self.block, count)
            else:
                self.counts[name] = self.counts.get(name, 0) + count

    def tell(self, force: bool = False, **more: Any) -> None:
        now = time.monotonic()
        if not self._enabled or (not force and now - self._told < 0.1):
            return
        self._told = now
        line = {
            "role": self._role,
            "position": {t: {str(p): o for p, o in parts.items()} for t, parts in self.position.items()},
            "produced": {t: {str(p): o for p, o in parts.items()} for t, parts in self.produced.items()},
            "counts": self.counts,
            "block": self.block,
            "busy": self.busy,
            **more,
        }
        sys.stdout.buffer.write(orjson.dumps(line) + b"\n")
        sys.stdout.buffer.flush()
