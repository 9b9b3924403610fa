"""How an EVM node fares: what it told, how it failed, and whether it may be asked. The one place for failures.

A node that fails rests for a while, longer each time in a row; one that gave what can't be rests long; both are asked
all the same where no other can be. One that wants quiet (Retry-After) is not asked at all until then.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from pipeline.ingest.evm.errors import (
    SAID_MAX,
    Busy,
    Disconnected,
    NodeError,
    NotFound,
    Refused,
    TooLarge,
    Unusable,
    Wrong,
    plain,
)

COOL_S: Final = (0.5, 60.0)  # a node that failed is not asked for so long: first, longest
DISTRUST_S: Final = (30.0, 3600.0)  # one that gave what can't be
BUSY_S_MAX: Final = 300.0  # of what a Retry-After may ask for


@dataclass
class NodeState:
    """What is known of a node, for the pool, the status and the metrics. Numbers: -1 for not told."""

    connected: bool = False  # and of our chain
    latest: int = -1
    latest_hash: str = ""
    safe: int = -1
    finalized: int = -1
    news_at: float = 0.0  # monotonic time of the last news of a head
    heard_at: float = 0.0  # of the last that came unasked
    failures: int = 0  # in a row
    distrusted: int = 0
    distrusted_at: float = 0.0
    rests_until: float = 0.0  # not asked if another can be
    busy_until: float = 0.0  # not asked at all
    last_error: str = ""
    requests: int = 0
    errors: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Terms:
    """How nodes are dealt with; `rate`: requests a second (0: no limit). `setting` is named to the user."""

    chain_id: int
    timeout_s: float
    rate: float
    poll_s: float
    silence_s: float
    tags: bool = True  # ask for safe and finalized
    setting: str = "TIDEBOOK_EVM_CONFIG"


def name_of(url: str) -> str:
    """host[:port], without credentials, and without the path, which may hold a key."""
    return urlsplit(url).netloc.rpartition("@")[2] or url.partition("/")[0][:20]


class Health:
    """What is known of one node. `caught` counts what was refused, of all nodes."""

    def __init__(self, name: str, caught: Counter[str] | None = None) -> None:
        self.name = name
        self.secrets: frozenset[str] = frozenset()  # of its URL
        self.state = NodeState()
        self.unusable: Unusable | None = None  # why it never can be used, as far as it looks
        self._caught = Counter[str]() if caught is None else caught

    @property
    def able(self) -> bool:
        """Connected, of our chain, and not asking for quiet."""
        return self.state.connected and time.monotonic() >= self.state.busy_until

    @property
    def usable(self) -> bool:
        """Able, and not resting after a failure or a lie."""
        return self.able and time.monotonic() >= self.state.rests_until

    def rest(self, bounds: tuple[float, float], times: int) -> None:
        """Ask it nothing for a while if another can be asked: longer each time, with jitter."""
        first, longest = bounds
        pause = min(longest, first * 2 ** min(times, 16)) * random.uniform(0.7, 1.3)
        self.state.rests_until = max(self.state.rests_until, time.monotonic() + pause)

    def distrust(self, why: str, said: str = "") -> None:
        """It gave what can't be; `why` in one word. Several answers at once are one lie; one long ago is forgiven."""
        state, now = self.state, time.monotonic()
        if now - state.distrusted_at > DISTRUST_S[1]:
            state.distrusted = 0
        if not state.distrusted or now >= state.rests_until:
            self.rest(DISTRUST_S, state.distrusted)
            state.distrusted, state.distrusted_at = state.distrusted + 1, now
        word = why if " " not in why else "wrong_answer"
        self._count(word, f"{self.name}: {why}: {said}".removesuffix(": "))

    def failed(self, error: NodeError) -> None:
        """Note a failure; a node that fails in a row rests longer and longer.

        Many requests under way may fail of one cause: that is one failure. That it lacks or refuses something, or
        wants to be asked for less, is no failure.
        """
        if isinstance(error, Wrong):
            return self.distrust(error.reason, str(error))
        self._count(error.reason, str(error))
        if isinstance(error, (NotFound, Refused, TooLarge, Disconnected)):
            return None
        if isinstance(error, Busy) and self.hush(error):
            return None
        if time.monotonic() >= self.state.rests_until:
            self.rest(COOL_S, self.state.failures)
            self.state.failures += 1
        return None

    def hush(self, error: Busy) -> bool:
        """Ask it nothing at all for as long as it wants; False if it does not say."""
        if error.retry_after is None:
            return False
        until = time.monotonic() + min(error.retry_after, BUSY_S_MAX)
        self.state.busy_until = max(self.state.busy_until, until)
        return True

    def _count(self, reason: str, said: str) -> None:
        self.state.errors[reason] += 1
        self._caught[reason] += 1
        self.state.last_error = self.plain(said)

    def plain(self, said: str) -> str:
        """What was said of it, fit to be shown."""
        return plain(said, self.secrets, cut=2 * SAID_MAX)
