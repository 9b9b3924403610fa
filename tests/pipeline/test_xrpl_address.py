"""TIDEBOOK_XRPL_URLS: S2's roles, and one clear line for each way to get it wrong."""

import pytest

from pipeline.ingest.xrpl.address import AddressError, core, parse_addresses


def test_only_core_nodes_are_read():
    found = parse_addresses(
        "wss://a.example:51233, core=ws://10.0.0.1:6006,treasury=ws://10.0.0.2,member=ws://m/ws"
    )
    assert [address.role for address in found] == ["core", "core", "treasury", "member"]
    assert [address.url for address in core(found)] == ["wss://a.example:51233", "ws://10.0.0.1:6006"]


def test_credentials_are_not_shown():
    (address,) = parse_addresses("wss://user:secret@node.example:443/path/")
    assert address.name == "node.example:443/path"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("http://node:5005", "write the node's WebSocket one, ws://"),
        ("https://node", "wss://"),
        ("node:6006", "is not [role=]ws"),
        ("ws://node:port", "ws://node:port"),
        ("bank=ws://node", "'bank' is no role; there are core, treasury, member"),
        ("treasury=ws://node", "names no core node"),
        ("ws://node,ws://node", "names a node twice"),
    ],
)
def test_what_is_wrong_is_said_with_the_setting(text, said):
    with pytest.raises(AddressError, match="TIDEBOOK_XRPL_URLS") as error:
        parse_addresses(text)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
