"""The cluster adapter where no cluster is: a clear error that names the setting, in seconds, never a hang."""

from __future__ import annotations

import socket
import time

import pytest

from sinks.books import BooksUnavailableError
from sinks.tigerbeetle import connect


def test_unreachable_cluster_names_the_setting() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        begun = time.monotonic()
        with pytest.raises(BooksUnavailableError, match=rf"TIGERBEETLE_ADDRESSES='{address}'.*CLUSTER_ID"):
            connect(address, timeout_s=0.5)
        assert time.monotonic() - begun < 10


@pytest.mark.parametrize("addresses", ["nonsense", "127.0.0.1:99999", ",".join(["3000"] * 99)])
def test_unusable_addresses_name_the_setting(addresses: str) -> None:
    with pytest.raises(BooksUnavailableError, match="TIGERBEETLE_ADDRESSES"):
        connect(addresses, timeout_s=0.5)


def test_cluster_id_must_fit() -> None:
    with pytest.raises(BooksUnavailableError, match="TIGERBEETLE_CLUSTER_ID"):
        connect("3000", cluster_id=1 << 128)
