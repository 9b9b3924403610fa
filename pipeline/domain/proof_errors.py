"""What a recomputation of hashes and roots ends with where it does not end with a proof."""

from __future__ import annotations


class Unprovable(ValueError):
    """What is given lacks what it takes; `.reason` says what in one line."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Contradiction(ValueError):
    """What is given contradicts itself or the chain; `.reason` names the rule in one word."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def must_agree(reason: str, what: str, found: str, other: str, stated: str) -> None:
    """That what was found is what is stated. Raises Contradiction."""
    if found != stated:
        raise Contradiction(reason, f"{what} {found}, {other} {stated}")
