"""A ledger that a kill cut off within its chunks: what is left of it is sent, of the same ledger, as it was."""

import pytest

from pipeline.ingest import ledgers
from pipeline.ingest.chains import Chain
from pipeline.ingest.ledgers import LedgerLine, Stopped
from schemas.codec import local_codec
from tests.support.derive_chain import derive
from tests.support.truth import RECORDED, read_ledgers

CODEC = local_codec()
RECORDINGS = read_ledgers(RECORDED)
LARGEST = max(range(2, 353), key=lambda at: len(RECORDINGS[at]["ledger"]["transactions"]))


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(ledgers, "CHUNK_BYTES", 1000)
    whole = ledgers.split
    monkeypatch.setattr(ledgers, "split", lambda items, size, limit=1000: whole(items, size, limit))


def line(tmp_path):
    chain = Chain(1, "xrpl:test", tmp_path / "chain")
    return LedgerLine(chain, True, lambda record: CODEC.encode("xrpl.ledgers.v1", record))


@pytest.mark.parametrize("before", [LARGEST - 1, LARGEST - 2])
def test_the_chunks_left_are_those_that_were_cut_off(tmp_path, before):
    """Also of the first ledger behind an accepted gap."""
    whole = line(tmp_path)
    whole.block(RECORDINGS[before])
    sent = whole.block(RECORDINGS[LARGEST])
    assert len(sent.chunks) > 2
    again = line(tmp_path)
    assert again.resume(sent.chunks[1][0]) == RECORDINGS[LARGEST]["ledger_index"]
    ready = again.block(RECORDINGS[LARGEST])
    assert ready.chunks == sent.chunks
    assert ready.gap is None  # it has been told


def test_another_ledger_behind_the_first_chunks_is_refused(tmp_path):
    whole = line(tmp_path)
    whole.block(RECORDINGS[LARGEST - 1])
    sent = whole.block(RECORDINGS[LARGEST])
    again = line(tmp_path)
    again.resume(sent.chunks[0][0])
    other = derive(RECORDINGS[LARGEST : LARGEST + 1], 1).ledgers[0]
    other["ledger"]["parent_hash"] = RECORDINGS[LARGEST]["ledger"]["parent_hash"]
    for holder in (other, other["ledger"]):
        holder.pop("ledger_hash", None)
        holder.pop("hash", None)
    with pytest.raises(Stopped) as stopped:
        again.block(other)
    assert stopped.value.reason == "other_ledger"
    assert again.block(RECORDINGS[LARGEST]).chunks == sent.chunks
