"""The trie's root and proofs against another implementation's answers; RLP against the library's."""

from __future__ import annotations

import pytest
import rlp
from eth_hash.auto import keccak
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.domain.evm_rlp import Malformed, data, encode_receipt, quantity, rlp_encode
from pipeline.domain.evm_trie import EMPTY_ROOT, ordered_root, prove, proves
from tests.pipeline.test_evm_proof import case

ROOTS = {
    1: ("a16aec0cd0037074ebc3afb1a6b3911c1f4ab785b1a91c068a5293ab12cb2a13",
        "ac92bc8d02906a87a573c32c72bb427036f0e43d7a7375c5c491ebba064add15"),
    2: ("b4cc0e0aa79c97905819a1bb3c71c41e469a273ad42ed876b6b93630fda41169",
        "08693bf7194a9e5481f518cc27be677512d038ddfb72263e13f0663e299ce2d8"),
    16: ("4cb9355d464ee4305cc93e41b251ac48ea3c7367153c25c9d74c12eff2e33254",
         "46031e66d23a0c21d8a05875f782f1960085ac368e401fb9946565ece929b262"),
    17: ("40cc5699f0384876f4aa027ac4efd163fb26db675720b99a1d4bb4a1a99a0643",
         "a87383e5770cdf013b6e22804b06ef4598148f60ce269820130310470c20a0be"),
    127: ("aee054b235fe050345a131dd064b586811d0b48c47975293393f62a79f6cfcab",
          "19f04690e34240656ac4e46fb05891a3a0ac81e1925bf48fb872f5d481be0ae9"),
    128: ("4063a731e3991f7d4836f122e55fea44f8f0d9fa737c1cb191981e84e449df0c",
          "f86b2ea03840bb50924fd06d47a3c6b1ad69bbc592c88ec4f988a5940223e677"),
    129: ("537b4669edafa22cd642857c95415ddff07ebf6f33198ce751be14c59e083ff2",
          "0fa21c70b7b79d5586ecbfcdf89aa5bb4c5d89f3c6ce6472ada730c8fa2119b6"),
    256: ("322c1c95eb150ffe82db5732ad377e153578a7ab739a4eba78aa5659574fbc3f",
          "6c1220c9e15a4caaf5a3b9881adb62ce18aedf933ad0cafd6186e930730786c1"),
    257: ("ad08055bae97e2b3bde0493499202ef772aefd2a03f72a95689cf5b6150db6cb",
          "33c639ec4eb9a470e4db3e4ba2230370a21daf6e70f76c462206a65666c830a6"),
    300: ("42ab826b4d79b785460fbfeac027e392191500093f48ea76dc04cc6d5d50b7f7",
          "86107ec701a6bbf555749d8d3fd2e40ec6e43f0963cb6bed2cce3bd4743028b4"),
}  # fmt: skip
"""Roots by HexaryTrie of the library `trie` 4.0.0 over long and over one-byte values (nodes in nodes)."""


def long_values(count: int) -> list[bytes]:
    return [keccak(index.to_bytes(2, "big")) * (1 + index % 7) for index in range(count)]


def short_values(count: int) -> list[bytes]:
    return [bytes((1 + index % 250,)) for index in range(count)]


@pytest.mark.parametrize("count", ROOTS)
def test_roots_by_another_implementation(count: int) -> None:
    assert (ordered_root(long_values(count)).hex(), ordered_root(short_values(count)).hex()) == ROOTS[count]


@pytest.mark.parametrize(
    ("count", "root"),
    [
        (40, "1ac149fdb1ba4070366a029ee975aa6aeeae920d8afddcf6c14fe2a5d6cb513f"),
        (300, "9aa250898af449c65a5ea2e396db409d62f58d90a54db65380625b4bbf3047f5"),
    ],
)
def test_nodes_of_every_length_about_32(count: int, root: str) -> None:
    """A node stands in its parent up to 31 bytes, from 32 on its hash does."""
    values = [(keccak(bytes((index % 256,))) * 2)[: 1 + index % 40] for index in range(count)]
    assert ordered_root(values).hex() == root
    for index, value in enumerate(values):
        assert proves(bytes.fromhex(root), index, value, prove(values, index))


def test_the_empty_root() -> None:
    root = "56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421"
    assert ordered_root([]) == EMPTY_ROOT == bytes.fromhex(root)


@pytest.mark.parametrize("values", [long_values, short_values])
@pytest.mark.parametrize("count", [1, 2, 17, 129, 300])
def test_each_value_is_proven_and_no_other(values, count) -> None:  # type: ignore[no-untyped-def]
    held = values(count)
    root = ordered_root(held)
    for index in range(count):
        nodes = prove(held, index)
        assert proves(root, index, held[index], nodes)
        assert not proves(root, index, held[index] + b"\0", nodes)
        assert not proves(root, index, held[(index + 1) % count] + b"\1", nodes)
        assert not proves(root, count, held[index], nodes)
        assert not proves(root, index, held[index], nodes[:-1])
        assert not proves(root, index, held[index], [*nodes, nodes[-1]])
        assert not proves(keccak(root), index, held[index], nodes)
    with pytest.raises(IndexError):
        prove(held, count)


def test_a_changed_bit_anywhere_in_a_proof() -> None:
    held = long_values(40)
    root, nodes = ordered_root(held), prove(held, 20)
    for at, node in enumerate(nodes):
        for bit in range(0, 8 * len(node), 7):
            changed = bytearray(node)
            changed[bit // 8] ^= 1 << bit % 8
            assert not proves(root, 20, held[20], [*nodes[:at], bytes(changed), *nodes[at + 1 :]])


NESTED = st.recursive(st.binary(max_size=70), lambda inner: st.lists(inner, max_size=20), max_leaves=60)


@given(NESTED)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_rlp_is_the_librarys(item: object) -> None:
    assert rlp_encode(item) == rlp.encode(item)  # type: ignore[arg-type]


@pytest.mark.parametrize("length", [0, 1, 55, 56, 255, 256, 65_535, 65_536])
def test_rlp_of_long_strings_and_lists(length: int) -> None:
    for item in (b"\x80" * length, [b"\1"] * length):
        assert rlp_encode(item) == rlp.encode(item)


@pytest.mark.parametrize("value", ["", "1", "0x", "0xg", "0x1_0", "-0x1", -1, True, None, 1.0, [], b""])
def test_what_is_no_quantity(value: object) -> None:
    with pytest.raises(Malformed, match="nonce"):
        quantity(value, "nonce")


@pytest.mark.parametrize("value", ["", "00", "0x0", "0xzz", "0x 00", "0x00 ", 1, None, ["0x"]])
def test_what_is_no_data(value: object) -> None:
    with pytest.raises(Malformed, match="input"):
        data(value, "input")


@pytest.mark.parametrize("size", [0, 19, 21])
def test_data_of_another_size(size: int) -> None:
    with pytest.raises(Malformed):
        data("0x" + "11" * size, "address", 20)


def test_a_status_is_0_or_1() -> None:
    receipt = case("anvil-types")["receipts"][0]
    with pytest.raises(Malformed, match="status"):
        encode_receipt({**receipt, "status": "0x2"})
