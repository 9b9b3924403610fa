"""What may be wrong with a recorded XRPL answer: one class a cause, one clear line each.

`transaction_hash` names the transaction where one is at fault, else None.
"""


class RecordedError(ValueError):
    """A recorded answer that holds no decodable ledger or transaction."""

    def __init__(self, reason: str, transaction_hash: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.transaction_hash = transaction_hash


class NotALedger(RecordedError):
    """Neither a ledger nor a transaction in any shape known here."""


class ErrorAnswer(RecordedError):
    """The node answered with an error (`lgrNotFound`, `notSynced`, ...)."""


class NotValidated(RecordedError):
    """An open or merely closed ledger, or a proposed transaction: not final."""


class NotExpanded(RecordedError):
    """The ledger lists hashes instead of transactions."""


class MissingMetadata(RecordedError):
    """A transaction without metadata: what it did cannot be known."""


class Malformed(RecordedError):
    """A ledger or transaction whose needed fields are missing or have the wrong type."""


class Truncated(RecordedError):
    """The recording ends in the middle."""
