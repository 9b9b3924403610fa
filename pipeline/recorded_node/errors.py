"""Errors as a node answers them: token, number, text.

Source: rippled `protocol/ErrorCodes.h`; texts that a request gets in place of the usual one are given where
they are raised, as recorded in tests/data/xrpl-standalone/node-behaviour.json.gz.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

ERRORS: Final[Mapping[str, tuple[int, str]]] = {
    "forbidden": (3, "Bad credentials."),
    "noPermission": (6, "You don't have permission for this command."),
    "tooBusy": (9, "The server is too busy to help you now."),
    "slowDown": (10, "You are placing too much load on the server."),
    "noNetwork": (17, "Not synced to the network."),
    "notSynced": (18, "Not synced to the network."),
    "actNotFound": (19, "Account not found."),
    "lgrNotFound": (21, "Ledger not found."),
    "txnNotFound": (29, "Transaction not found."),
    "invalidParams": (31, "Invalid parameters."),
    "unknownCmd": (32, "Unknown method."),
    "actMalformed": (35, "Account malformed."),
    "malformedStream": (71, "Stream malformed."),
    "internal": (73, "Internal error."),
    "notImpl": (74, "Not implemented."),
    "excessiveLgrRange": (78, "Ledger range exceeds 1000."),
    "invalidLgrRange": (79, "Ledger range is invalid."),
}


class Refusal(Exception):
    """An error answer. `extra` stands beside the error, as the ledger that an account was not found in does."""

    def __init__(
        self, error: str, message: str | None = None, extra: Mapping[str, Any] | None = None
    ) -> None:
        self.error = error
        self.code, usual = ERRORS[error]
        self.message = usual if message is None else message
        self.extra = dict(extra or {})
        super().__init__(f"{error}: {self.message}")


def not_found() -> Refusal:
    """No such ledger here, now."""
    return Refusal("lgrNotFound", "ledgerNotFound")


def missing_field(name: str) -> Refusal:
    """A request lacks a field."""
    return Refusal("invalidParams", f"Missing field '{name}'.")


def invalid_field(name: str, expected: str = "") -> Refusal:
    """A field of a request has the wrong kind of value."""
    return Refusal("invalidParams", f"Invalid field '{name}'" + (f", not {expected}." if expected else "."))
