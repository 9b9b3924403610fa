"""What runs in a data directory: `tidebook up` tells it in a file there, and other commands find its servers by it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import orjson

UP_FILE: Final = "up.json"


def running(data_dir: Path) -> dict[str, Any] | None:
    """What the file tells, None where nothing runs: a process that was killed leaves its file behind."""
    try:
        told = orjson.loads((data_dir / UP_FILE).read_bytes())
        os.kill(int(told["pid"]), 0)
    except PermissionError:  # it runs, as somebody else
        pass
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return dict(told)
