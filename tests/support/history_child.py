"""A process that writes a seeded chain into a history until all is in, to be killed at any moment.

python -m tests.support.history_child PATH EPOCH SEED LEDGERS BATCH [MONTHS]: reads on where the epoch was committed,
prints a line per batch written and per flush, `done` at the end.
"""

import sys
from pathlib import Path

from tests.support.history import LEDGERS, chain, history, message


def main(path: str, epoch: str, seed: int, ledgers: int, batch: int, months: int = 3) -> None:
    """Write what is missing."""
    messages = [message(record, offset) for offset, record in enumerate(chain(seed, ledgers, months))]
    with history(Path(path)) as sink:
        start = sink.open_partition(epoch, LEDGERS, 0)
        print("open", start, flush=True)
        for place in range(start, len(messages), batch):
            sink.write(epoch, messages[place : place + batch])
            print("written", place, flush=True)
            sink.flush()
            print("flushed", place, flush=True)
        print("done", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
