"""Transfer ids: fields where DESIGN.md puts them, limits at their edges."""

import pytest

from pipeline.domain.position import (
    Phase,
    PositionOverflow,
    block_base,
    hash28,
    named_transfer_id,
    transfer_id,
)

HASH = "ABCDEF0" + "1" * 57


def test_fields_stand_where_the_layout_says():
    number = transfer_id(block_base(3, 5, HASH, 2), 7, 11, Phase.VOID)
    assert number >> 127 == 0
    assert number >> 112 & 0x7FFF == 3
    assert number >> 72 & (1 << 40) - 1 == 5
    assert number >> 44 & (1 << 28) - 1 == 0xABCDEF0 == hash28(HASH)
    assert number >> 40 & 0xF == 2
    assert number >> 18 & (1 << 22) - 1 == 7
    assert number >> 2 & 0xFFFF == 11
    assert number & 3 == 2


@pytest.mark.parametrize(
    ("chain", "block", "incarnation", "transaction", "leg"),
    [(0, 0, 0, 0, 0), ((1 << 15) - 1, (1 << 40) - 1, 15, (1 << 22) - 1, (1 << 16) - 1)],
)
def test_edges_fit(chain, block, incarnation, transaction, leg):
    assert 0 <= transfer_id(block_base(chain, block, HASH, incarnation), transaction, leg) < 1 << 127


@pytest.mark.parametrize(
    ("chain", "block", "incarnation", "transaction", "leg", "named"),
    [
        (1 << 15, 0, 0, 0, 0, "chain"),
        (0, 1 << 40, 0, 0, 0, "block"),
        (0, 0, 16, 0, 0, "incarnation"),
        (0, 0, 0, 1 << 22, 0, "transaction"),
        (0, 0, 0, 0, 1 << 16, "leg"),
        (-1, 0, 0, 0, 0, "chain"),
    ],
)
def test_over_the_edge_is_told_by_name(chain, block, incarnation, transaction, leg, named):
    with pytest.raises(PositionOverflow, match=named):
        transfer_id(block_base(chain, block, HASH, incarnation), transaction, leg)


def test_ids_rise_along_a_chain():
    places = [(1, 0, 0), (1, 0, 1), (1, 3, 0), (2, 0, 0), (2, 9, 65535), (1 << 39, 0, 0)]
    numbers = [transfer_id(block_base(1, block, HASH), tx, leg) for block, tx, leg in places]
    assert numbers == sorted(numbers)


def test_named_ids_are_apart_from_places_and_from_each_other():
    one = named_transfer_id("opening", "ab", "c")
    assert one >> 127 == 1
    assert one != named_transfer_id("opening", "a", "bc")
    assert one == named_transfer_id("opening", "ab", "c")
    assert named_transfer_id("x", leg=(1 << 14) - 1) & 0xFFFF == 0xFFFC
    with pytest.raises(PositionOverflow):
        named_transfer_id("x", leg=1 << 14)
