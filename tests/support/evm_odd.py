"""Values that no node should answer with, and a URL of a node that is full of secrets."""

from __future__ import annotations

from typing import Any, Final

ODD: Final[list[Any]] = [
    None, True, -1, 1.5, 1e300, "", "0x", "0x" + "f" * 5000, "0x1_0", "\ud800", "x\n\x1b[31m", [], {}, [[]], [None],
    [{}], {"0x": []},
]  # fmt: skip
SECRETS = ("S3CRETKEY", "hunter22", "tok3n")
URL = f"http://user:{SECRETS[1]}@127.0.0.1:1/v2/{SECRETS[0]}?auth={SECRETS[2]}"
