"""The applications whose chain assets are watched: the file that TIDEBOOK_APPS_CONFIG names, read once, checked whole.

Whatever is wrong is an AppsConfigError of one line: setting, file, key, what is wrong, what to do. The form is
explained in deploy/apps.example.toml.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, Final

from pipeline.domain.applications.apps import NO_APPS, ROLES, App, Apps, chain_address

SETTING: Final = "TIDEBOOK_APPS_CONFIG"
KEYS: Final = ("title", *ROLES)
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class AppsConfigError(ValueError):
    """The file is wrong; the message is one line that says where, what and what to do."""


def read_apps(path: Path | None) -> Apps:
    """The applications of the file, none without one. Raises AppsConfigError."""
    if path is None:
        return NO_APPS
    try:
        return _apps(_toml(path))
    except ValueError as wrong:
        raise AppsConfigError(f"setting {SETTING}={path}: {wrong}") from None


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8"
        raise ValueError(f"can't be read: {reason}; name a TOML file like deploy/apps.example.toml") from None
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"is no TOML: {' '.join(str(error).split())}") from None


def _apps(value: dict[str, Any]) -> Apps:
    for name in value:
        if name != "apps":
            raise ValueError(f"{str(name)[:80]}: no such key; applications are written [apps.<id>]")
    apps = value.get("apps")
    if not isinstance(apps, dict) or not apps:
        raise ValueError("apps: missing; add an application, [apps.<id>], or leave the setting out")
    return Apps(tuple(_app(id, of) for id, of in apps.items()))


def _app(id: str, value: Any) -> App:
    if not _ID.fullmatch(id):
        raise ValueError(
            f"apps.{id[:80]}: an id has letters, digits, '.', '_' and '-', at most 64; rename it"
        )
    if not isinstance(value, dict):
        raise ValueError(f"apps.{id}: must be a table, [apps.{id}]")
    for key in value:
        if key not in KEYS:
            raise ValueError(f"apps.{id}.{key[:80]}: no such key; there are {', '.join(KEYS)}")
    title = value.get("title")
    if not isinstance(title, str) or not title.strip():
        raise ValueError(f"apps.{id}.title: missing; say what people call the application")
    roles = {role: _addresses(f"apps.{id}.{role}", role, value.get(role, [])) for role in ROLES}
    return App(id, title.strip(), **roles)


def _addresses(key: str, role: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ValueError(f'{key}: must be a list of texts, ["<chain>/<address>"]')
    found = []
    for place, text in enumerate(value, 1):
        try:
            address = chain_address(text)
        except ValueError as wrong:
            raise ValueError(f"{key} {place}: {wrong}") from None
        if role == "attestors" and not address.startswith("xrpl:"):
            raise ValueError(f"{key} {place}: digests are read from XRPL memos; name an account xrpl:…/r…")
        found.append(address)
    return tuple(found)
