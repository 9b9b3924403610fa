"""Account and book ids: the same for ever (frozen here), far from each other."""

from pipeline.domain.account import (
    BOOK_NUMBER_MIN,
    AccountCode,
    AccountRef,
    account_id,
    book_number,
    owner_id,
    u128,
)
from pipeline.domain.asset import collection_key, mpt_issuer, parse_nft_id

REF = AccountRef("xrpl:0/XRP", int(AccountCode.HOLDER), "rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh")


def test_ids_never_change():
    """A change here would give every account of every store another id."""
    assert account_id(REF).hex() == "ba06bd78ac7c3dab5d4f7f3960695d9a"
    assert owner_id(REF.owner).hex() == "f532d41ea7adba83ffa451ddbcb3aef0"
    assert book_number("xrpl:0/XRP", 0) == 477411763


def test_every_part_of_the_name_matters():
    others = [
        REF._replace(asset="xrpl:1/XRP"),
        REF._replace(code=int(AccountCode.ESCROW)),
        REF._replace(owner="r"),
        REF._replace(subject="x"),
    ]
    ids = {account_id(ref) for ref in [REF, *others]}
    assert len(ids) == 5
    assert all(int.from_bytes(one, "little") >= 1 << 127 for one in ids)  # never a control account's
    assert u128("ab", "c") != u128("a", "bc")


def test_books_probe_upward_within_their_range():
    numbers = [book_number("a", probe) for probe in range(1000)]
    assert len(set(numbers)) == 1000
    assert all(BOOK_NUMBER_MIN <= number < 2**32 - 1 for number in numbers)


def test_nft_id_of_the_specification():
    """One that the recorded node minted: its transaction names the taxon that the id scrambles."""
    nft = "0009000056702189A0178930A767374B33E794D68EE6397C93E8B1E100000028"
    parsed = parse_nft_id(nft)
    assert (parsed.flags, parsed.transfer_fee, parsed.taxon, parsed.serial) == (9, 0, 34, 40)
    assert collection_key("xrpl:x", nft) == f"xrpl:x/nft:{parsed.issuer}:{parsed.taxon}"
    assert (
        mpt_issuer("000000011DE6944F3DDC96F9EA3237303DE0568A665A7BCA") == "rsjaFVmFqR7LWR2RySQNkmekkm5q294mcc"
    )
