"""The analysts' views: one file each in `views/`, documented by its leading comment.

A file is `-- comment lines`, the last an example, then a SELECT. {name:Type} in it is a parameter, given as
`SELECT * FROM view(name = value)`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

_FOLDER: Final = Path(__file__).parent / "views"
_PARAMETER: Final = re.compile(r"\{(\w+):\s*([^}]+)\}")


@dataclass(frozen=True)
class View:
    """One view; `parameters` are name → ClickHouse type."""

    name: str
    doc: str
    select: str
    parameters: dict[str, str]

    @property
    def sql(self) -> str:
        """Statement that makes the view what it is here."""
        return f"CREATE OR REPLACE VIEW {self.name} AS\n{self.select}"


@cache
def views() -> tuple[View, ...]:
    """All views, those first that others read."""
    return tuple(_view(path) for path in sorted(_FOLDER.glob("*.sql")))


def _view(path: Path) -> View:
    lines = path.read_text(encoding="utf-8").splitlines()
    doc = [line[2:].strip() for line in lines if line.startswith("--")]
    select = "\n".join(line for line in lines if not line.startswith("--")).strip()
    return View(path.stem, "\n".join(doc), select, dict(_PARAMETER.findall(select)))
