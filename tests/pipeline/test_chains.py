"""The register of recorded chains: what belongs together, what does not, and after a crash."""

from pathlib import Path

import pytest

from pipeline.ingest.chains import LOCAL_FIRST, ChainError, ChainRegister


def line(*names, start=1):
    """Headers of a chain whose hashes are the names."""
    parents = ["0", *names]
    return [
        {"ledger_index": start + at, "ledger_hash": name, "parent_hash": parents[at]}
        for at, name in enumerate(names)
    ]


def book(register, headers, run=1):
    chain = register.identify(iter(headers), None)
    chain.append([(h["ledger_index"], h["ledger_hash"], run) for h in headers])
    return chain


def test_the_same_recording_is_the_same_chain(tmp_path):
    first = book(ChainRegister(tmp_path), line("a", "b", "c"))
    assert first.number == LOCAL_FIRST
    again = ChainRegister(tmp_path).identify(iter(line("a", "b", "c")), None)
    assert (again.number, again.name, again.ledgers[3]) == (first.number, first.name, ("c", 1))


def test_a_longer_and_a_shorter_recording_belong_to_it(tmp_path):
    first = book(ChainRegister(tmp_path), line("a", "b", "c"))
    for headers in (line("a", "b"), line("a", "b", "c", "d"), line("a", "b", "c", "d")[3:]):
        assert ChainRegister(tmp_path).identify(iter(headers), None).number == first.number


def test_chains_that_share_their_genesis_are_two(tmp_path):
    first = book(ChainRegister(tmp_path), line("a", "b", "c"))
    second = book(ChainRegister(tmp_path), line("a", "x", "y"))
    assert (second.number, second.name) == (first.number + 1, f"{first.name}-2")
    assert ChainRegister(tmp_path).identify(iter(line("a", "x", "y")), None).number == second.number
    assert ChainRegister(tmp_path).identify(iter(line("a", "b", "c")), None).number == first.number


def test_a_recording_that_fills_a_gap_or_starts_earlier_is_refused(tmp_path):
    whole = line("a", "b", "c", "d")
    book(ChainRegister(tmp_path), [whole[1], whole[3]])
    with pytest.raises(ChainError, match="without ledger 3"):
        ChainRegister(tmp_path).identify(iter(whole[1:]), None)
    with pytest.raises(ChainError, match="without ledger 1"):
        ChainRegister(tmp_path).identify(iter(whole), None)


def test_a_line_cut_off_by_a_crash_is_forgotten(tmp_path):
    chain = book(ChainRegister(tmp_path), line("a", "b", "c"))
    whole = chain.path.read_bytes()
    chain.path.write_bytes(whole[:-3])
    again = ChainRegister(tmp_path).identify(iter(line("a", "b", "c")), None)
    assert sorted(again.ledgers) == [1, 2]
    again.append([(3, "c", 1)])
    assert chain.path.read_bytes() == whole


def test_names_of_networks_have_their_committed_number(tmp_path):
    assert ChainRegister(tmp_path).identify(iter(line("a")), "0").number == 1
    chain = ChainRegister(tmp_path).identify(iter(line("a")), "0")
    chain.append([(1, "a", 1)])
    with pytest.raises(ChainError, match="other ledgers"):
        ChainRegister(tmp_path).identify(iter(line("z", "y")), "0")


def test_the_latest_run_is_shown_by_default(tmp_path):
    register = ChainRegister(tmp_path)
    first, second = book(register, line("a", "b")), book(register, line("a", "x"))
    register.mark_latest(first)
    assert ChainRegister(tmp_path).find(None).number == first.number
    assert ChainRegister(tmp_path).find(second.name).number == second.number
    with pytest.raises(ChainError, match="there: "):
        ChainRegister(tmp_path).find("xrpl:none")


def test_a_chain_is_told_from_another_with_higher_indexes(tmp_path):
    """The other chain's indexes are none of this one's business."""
    high = book(ChainRegister(tmp_path), line("u", "v", "w", start=900), run=900)
    low = book(ChainRegister(tmp_path), line("a", "b", "c"))
    assert ChainRegister(tmp_path).identify(iter(line("a", "b", "c")), None).number == low.number
    assert ChainRegister(tmp_path).identify(iter(line("u", "v", "w", start=900)), None).number == high.number


def test_two_processes_never_take_the_same_number(tmp_path: Path) -> None:
    one, other = ChainRegister(tmp_path), ChainRegister(tmp_path)
    first, second = one.evm_chain("eip155:31337"), other.evm_chain("eip155:31338")
    assert (first.number, second.number) == (1 << 14, (1 << 14) + 1)
    assert ChainRegister(tmp_path).evm_chain("eip155:31337").number == first.number
    assert (first.partition, second.partition) == (0, 1)


def test_a_named_evm_chain_has_the_number_of_the_registry(tmp_path: Path) -> None:
    assert ChainRegister(tmp_path).evm_chain("eip155:1").number == 100
    assert ChainRegister(tmp_path).evm_chain("eip155:1").partition == 3


def test_two_processes_that_follow_the_same_chain_have_one_number(tmp_path: Path) -> None:
    one, other = ChainRegister(tmp_path), ChainRegister(tmp_path)
    assert one.evm_chain("eip155:31337").number == other.evm_chain("eip155:31337").number
