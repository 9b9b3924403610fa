"""The intake's journal: all or nothing, once, in one order, whoever shares it."""

import asyncio
import sqlite3

import pytest

from pipeline.api.journal import READ_BYTES, Entry, GroupCommit, Journal, JournalError, PublishingLock

T, U = "assets.activity.v1", "positions.events.v1"


def entry(n, topic=T, digest=b"d", value=b"v"):
    """Entry number n."""
    headers = (("ce_id", b"%d" % n), ("empty", b""), ("ce_source", "ö".encode()))
    return Entry(
        topic, "client", f"key-{n}", f"id-{n}", digest, b"k%d" % n, value + b"%d" % n, headers, 1000 + n
    )


def test_what_is_accepted_is_there_after_a_restart_byte_for_byte(tmp_path):
    journal = Journal(tmp_path)
    held = journal.append([entry(n) for n in range(700)])
    assert [one.seq for one in held] == list(range(1, 701))
    journal.close()
    journal = Journal(tmp_path)
    found = journal.waiting(T, 0, 1000)
    assert [one.seq for one in found] == list(range(1, 701))
    for n, one in enumerate(found):
        message, was = one.message, entry(n)
        assert (message.topic, message.key, message.value, message.headers) == (
            T,
            was.key,
            was.value,
            was.headers,
        )
        assert one.accepted_ms == was.accepted_ms and message.partition == 0
    held = [one._replace(ours=False) for one in held]  # somebody's
    assert journal.find(["id-3", "id-699", "id-700"]) == {"id-3": held[3], "id-699": held[699]}
    assert journal.find(["id-5"]) == {"id-5": held[5]} and journal.find(["no"]) == {}


def test_whoever_is_second_gets_the_first_one_s_row(tmp_path):
    first, second = Journal(tmp_path), Journal(tmp_path)
    (held,) = first.append([entry(1, digest=b"first")])
    answers = second.append([entry(0), entry(1, digest=b"second"), entry(2)])
    assert held.ours and answers[1] == held._replace(ours=False) and answers[1].digest == b"first"
    assert [one.seq for one in answers] == [2, 1, 3]
    assert [one.message.value for one in first.waiting(T, 0)] == [b"v1", b"v0", b"v2"]


def test_what_a_publisher_remembers_spares_reading_and_skips_nobody_s_row(tmp_path):
    """Rows of other processes stand in between: what to publish is what the journal holds, in its order."""
    first, second = Journal(tmp_path), Journal(tmp_path)
    first.remembers = True
    ours = [entry(0), entry(1)]
    first.append(ours)
    second.append([entry(2)])
    first.append([entry(0, digest=b"again")])
    first.append([entry(3), entry(4, U)])
    with pytest.raises(JournalError):
        first.append([entry(5), entry(6)._replace(value=None)])
    second.append([entry(7)])  # in the place that the failed one had
    rows = second.waiting(T, 0)
    assert [row.message.value for row in rows] == [b"v0", b"v1", b"v2", b"v3", b"v7"]

    found = first.waiting(T, 0)
    assert found == rows[:2] and found[0].message.value is ours[0].value, "not read again"
    assert first.waiting(T, 2) == rows[2:], "the next one is another's"
    assert first.waiting(T, 3) == rows[3:4] and first.waiting(T, rows[3].seq) == rows[4:]
    first.forget(T, 1)
    assert first.waiting(T, 0) == rows and first.waiting(T, 1) == rows[1:2]
    assert first.waiting(T, rows[-1].seq) == [] and len(first.waiting(U, 0)) == 1


def test_topics_have_marks_of_their_own_and_a_mark_counts_in_its_epoch_alone(tmp_path):
    journal = Journal(tmp_path)
    journal.append([entry(0), entry(1, U), entry(2), entry(3, U)], [(T, "e1", 3)])
    assert [one.seq for one in journal.waiting(U, 0)] == [2, 4]
    assert journal.published(T, "e1") == 3 and journal.published(U, "e1") == 0
    assert journal.published(T, "e2") == 0, "a broker that began anew has nothing"
    assert journal.last(U) == 4 and journal.count(T) == 2 and journal.ids(T, 1, 9) == [(3, "id-2")]


def test_reading_is_bounded_by_bytes(tmp_path):
    journal = Journal(tmp_path)
    journal.append([entry(n, value=b"x" * 900_000) for n in range(9)])
    sizes = [len(journal.waiting(T, 0)), len(journal.waiting(T, 5))]
    assert sizes[0] == READ_BYTES // 900_000 + 1 < 9 and sizes[1] == 4


def test_a_full_disk_accepts_nothing_and_harms_nothing(tmp_path):
    journal = Journal(tmp_path)
    journal.append([entry(0)])
    pages = journal._write.execute("PRAGMA page_count").fetchone()[0]
    journal._write.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(JournalError, match="full"):
        journal.append([entry(n, value=b"x" * 50_000) for n in range(1, 9)])
    assert journal.find([f"id-{n}" for n in range(9)]).keys() == {"id-0"}
    journal._write.execute("PRAGMA max_page_count = 1000000")
    assert [one.seq for one in journal.append([entry(n) for n in range(9)])] == list(range(1, 10))


def test_a_header_that_could_not_be_read_back_is_not_written(tmp_path):
    journal = Journal(tmp_path)
    with pytest.raises(JournalError, match="NUL"):
        journal.append([entry(0)._replace(headers=(("a", b"\0"),))])
    with pytest.raises(JournalError):
        journal.append([entry(0)._replace(accepted_ms=1 << 64)])
    assert [one.seq for one in journal.append([entry(1)])] == [1], "others do not stand in its transaction"


def test_a_folder_that_can_not_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match=r"file/intake/journal\.db"):
        Journal(tmp_path / "file" / "intake")


def test_those_that_come_together_share_a_transaction(tmp_path):
    journal, sizes = Journal(tmp_path), []
    plain = journal.append

    def counted(entries, marks=()):
        sizes.append(len(entries))
        return plain(entries, marks)

    journal.append = counted

    async def run():
        commits = GroupCommit(journal)
        commits.mark(T, "e", 1)
        answers = await asyncio.gather(*[commits.append([entry(2 * n), entry(2 * n + 1)]) for n in range(40)])
        await commits.close()
        return answers

    answers = asyncio.run(run())
    assert [one.seq for part in answers for one in part] == list(range(1, 81))
    assert sum(sizes) == 80 and len(sizes) <= 3
    assert journal.published(T, "e") == 1


def test_an_error_is_told_to_all_that_shared_the_transaction_and_to_no_later_one(tmp_path):
    journal = Journal(tmp_path)
    journal._write.execute("PRAGMA query_only = 1")

    async def run():
        commits = GroupCommit(journal)
        failed = await asyncio.gather(*[commits.append([entry(n)]) for n in range(5)], return_exceptions=True)
        journal._write.execute("PRAGMA query_only = 0")
        fine = await commits.append([entry(9)])
        await commits.close()
        return failed, fine

    failed, fine = asyncio.run(run())
    assert all(isinstance(one, JournalError) for one in failed) and fine[0].seq == 1


def test_a_mark_without_rows_is_written_soon(tmp_path):
    journal = Journal(tmp_path)

    async def run():
        commits = GroupCommit(journal)
        commits.mark(T, "e", 5)
        for _ in range(12_000):
            await asyncio.sleep(0.01)
            if journal.published(T, "e"):
                break
        await commits.close()

    asyncio.run(run())
    assert journal.published(T, "e") == 5


def test_one_publishes_at_a_time(tmp_path):
    first, second = PublishingLock(tmp_path), PublishingLock(tmp_path)
    assert first.take() and first.take() and not second.take()
    first.close()
    assert second.take()


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "journal.db").write_bytes(b"no database, but long enough to be looked at" * 100)
    with pytest.raises(JournalError, match=r"journal\.db: file is not a database"):
        Journal(tmp_path)
    with pytest.raises(sqlite3.DatabaseError):
        sqlite3.connect(tmp_path / "journal.db").execute("SELECT 1 FROM events")
