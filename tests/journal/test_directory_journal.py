"""The laws of the journal: durable order, crash at any byte, one writer, atomic replacement."""

import json
import os
import threading
from contextlib import nullcontext

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efaas.errors import InputError, SessionEnded
from efaas.journal import DirectoryJournal, JournalDamaged, read_records
from efaas.journal import directory as module

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
RECORDS = st.dictionaries(st.text(), VALUES, max_size=4)


def filled(folder, count, epoch=0):
    with DirectoryJournal(folder, epoch) as journal:
        for number in range(count):
            journal.append({"number": number, "value": number / 7})


class TestAppendAndRead:
    @settings(max_examples=30, deadline=None)
    @given(st.lists(RECORDS, max_size=6))
    def test_records_come_back_in_order_and_to_the_bit(self, tmp_path_factory, records):
        folder = tmp_path_factory.mktemp("journal")
        with DirectoryJournal(folder) as journal:
            assert [journal.append(record) for record in records] == list(range(len(records)))
            assert list(journal.records()) == records
        with DirectoryJournal(folder) as journal:
            again = list(journal.records())
        # repr tells 1 from 1.0 and 0.0 from -0.0, which == does not.
        assert repr(again) == repr(records)
        assert repr(list(read_records(folder))) == repr(records)

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), b"bytes"])
    def test_a_record_that_is_not_json_is_refused_and_changes_nothing(self, tmp_path, value):
        with DirectoryJournal(tmp_path) as journal:
            journal.append({"a": 1})
            with pytest.raises(InputError, match="record 1"):
                journal.append({"a": value})
            assert list(journal.records()) == [{"a": 1}]
            assert journal.append({"a": 2}) == 1

    def test_a_record_longer_than_the_limit_is_refused(self, tmp_path, monkeypatch):
        monkeypatch.setattr("efaas.journal.lines.MAX_RECORD_BYTES", 100)
        with DirectoryJournal(tmp_path) as journal:
            with pytest.raises(InputError, match="more than the 100"):
                journal.append({"a": "x" * 100})
            assert len(journal) == 0

    def test_a_durable_append_syncs_and_an_undurable_one_leaves_it_to_the_next(self, tmp_path, monkeypatch):
        synced = []
        real = os.fdatasync
        with DirectoryJournal(tmp_path) as journal:
            monkeypatch.setattr(
                os, "fdatasync", lambda fd: (synced.append(journal.path.stat().st_size), real(fd))
            )
            journal.append({"n": 0}, durable=False)
            journal.append({"n": 1}, durable=False)
            assert synced == []
            journal.append({"n": 2})
            assert synced == [journal.path.stat().st_size]
            journal.flush()  # nothing new: no sync
            assert len(synced) == 1

    def test_append_from_many_threads_numbers_every_record_once(self, tmp_path):
        numbers = []
        with DirectoryJournal(tmp_path) as journal:

            def work(name):
                numbers.extend(journal.append({"by": name}, durable=False) for _ in range(50))

            threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert sorted(numbers) == list(range(200))
            assert len(list(journal.records())) == 200

    def test_append_after_close_is_refused(self, tmp_path):
        journal = DirectoryJournal(tmp_path)
        journal.close()
        journal.close()
        with pytest.raises(InputError, match="closed"):
            journal.append({})

    def test_a_folder_without_a_journal_has_no_records(self, tmp_path):
        assert list(read_records(tmp_path / "nothing")) == []


class TestSequence:
    def test_the_same_record_at_the_same_number_is_accepted_once(self, tmp_path):
        with DirectoryJournal(tmp_path) as journal:
            assert journal.append({"a": 0.1}, sequence=0) == 0
            assert journal.append({"a": 0.1}, sequence=0) == 0
            assert list(journal.records()) == [{"a": 0.1}]

    def test_other_content_at_a_number_is_refused(self, tmp_path):
        with DirectoryJournal(tmp_path) as journal:
            journal.append({"a": 1}, sequence=0)
            with pytest.raises(InputError, match="other content"):
                journal.append({"a": 2}, sequence=0)

    @pytest.mark.parametrize("sequence", [-1, 2, 10])
    def test_a_number_out_of_order_is_refused(self, tmp_path, sequence):
        with DirectoryJournal(tmp_path) as journal:
            journal.append({"a": 1})
            with pytest.raises(InputError, match="out of order; the next one is 1"):
                journal.append({"a": 2}, sequence=sequence)

    def test_a_record_before_an_epoch_is_found_again(self, tmp_path):
        filled(tmp_path, 2, epoch=1)
        with DirectoryJournal(tmp_path, 2) as journal:
            assert journal.append({"number": 1, "value": 1 / 7}, sequence=1) == 1


class TestCrash:
    def test_a_file_cut_at_any_byte_holds_a_prefix_and_goes_on(self, tmp_path):
        filled(tmp_path, 4, epoch=1)
        filled_again = DirectoryJournal(tmp_path, 2)
        filled_again.append({"number": 4, "text": "ä\n\t"})
        filled_again.close()
        whole = filled_again.path.read_bytes()
        records = list(read_records(tmp_path))
        seen = set()
        for size in range(len(whole) + 1):
            filled_again.path.write_bytes(whole[:size])
            assert list(read_records(tmp_path)) == records[: len(list(read_records(tmp_path)))]
            with DirectoryJournal(tmp_path, 2) as journal:
                found = list(journal.records())
                assert found == records[: len(found)]
                # All whole lines are there: only the torn one is lost.
                assert len(found) == whole[:size].count(b'{"seq"') - (
                    b'{"seq"' in whole[:size].rpartition(b"\n")[2]
                )
                assert journal.append({"next": 1}) == len(found)
            assert list(read_records(tmp_path)) == [*found, {"next": 1}]
            seen.add(len(found))
        assert seen == set(range(6))

    @settings(max_examples=60, deadline=None)
    @given(data=st.data())
    def test_a_damaged_byte_is_an_error_or_costs_the_last_record_only(self, tmp_path_factory, data):
        folder = tmp_path_factory.mktemp("journal")
        filled(folder, 3)
        path = folder / module.FILE_NAME
        whole = path.read_bytes()
        place = data.draw(st.integers(0, len(whole) - 1))
        byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != whole[place]))
        path.write_bytes(whole[:place] + bytes([byte]) + whole[place + 1 :])
        last_line = whole.rstrip(b"\n").rindex(b"\n") + 1
        if place < last_line:
            with pytest.raises(JournalDamaged, match=rf"{module.FILE_NAME}:[12]: "):
                DirectoryJournal(folder)
            assert path.read_bytes()[:place] == whole[:place]  # nothing was cut off
        elif byte == ord("\t"):  # it may look like two lines in one: then a person decides
            with pytest.raises(JournalDamaged) if len(whole) - place - 1 > 17 else nullcontext():
                DirectoryJournal(folder).close()
        else:
            with DirectoryJournal(folder) as journal:
                assert len(journal) == 2
                assert journal.cut_bytes > 0

    def test_a_lost_line_break_is_damage(self, tmp_path):
        """Two records in one line must not both be cut off as a torn last line."""
        filled(tmp_path, 3)
        path = tmp_path / module.FILE_NAME
        lines = path.read_bytes().split(b"\n")
        path.write_bytes(lines[0] + b"\n" + lines[1] + b"#" + lines[2] + b"\n")
        with pytest.raises(JournalDamaged, match=r"journal\.jsonl:2"):
            DirectoryJournal(tmp_path)

    def test_a_missing_line_is_damage(self, tmp_path):
        filled(tmp_path, 3)
        path = tmp_path / module.FILE_NAME
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(lines[0] + lines[2] + lines[2])
        with pytest.raises(JournalDamaged, match=r"journal\.jsonl:2"):
            DirectoryJournal(tmp_path)

    def test_a_write_that_fails_half_way_is_taken_back(self, tmp_path, monkeypatch):
        with DirectoryJournal(tmp_path) as journal:
            journal.append({"n": 0})
            real = os.write

            def full_disk(descriptor, data):
                real(descriptor, bytes(data)[:5])
                raise OSError(28, "No space left on device")

            monkeypatch.setattr(os, "write", full_disk)
            with pytest.raises(OSError, match="No space"):
                journal.append({"n": 1})
            monkeypatch.undo()
            assert journal.append({"n": 1}) == 1
        assert list(read_records(tmp_path)) == [{"n": 0}, {"n": 1}]

    def test_after_a_failed_sync_nothing_more_is_taken(self, tmp_path, monkeypatch):
        with DirectoryJournal(tmp_path) as journal:

            def broken(descriptor):
                raise OSError(5, "Input/output error")

            monkeypatch.setattr(os, "fdatasync", broken)
            with pytest.raises(OSError, match="Input/output"):
                journal.append({"n": 0})
            monkeypatch.undo()
            with pytest.raises(SessionEnded, match="open the journal again"):
                journal.append({"n": 1})


class TestOneWriter:
    def test_a_living_writer_keeps_others_of_its_epoch_out(self, tmp_path):
        with DirectoryJournal(tmp_path, 3), pytest.raises(SessionEnded, match="lease epoch 3"):
            DirectoryJournal(tmp_path, 3)
        DirectoryJournal(tmp_path, 3).close()

    def test_a_lower_epoch_is_refused_for_ever(self, tmp_path):
        filled(tmp_path, 1, epoch=2)
        with pytest.raises(SessionEnded, match="lease epoch 2 has taken over, this one has 1"):
            DirectoryJournal(tmp_path, 1)

    @pytest.mark.parametrize("records", [0, 2])
    def test_a_higher_epoch_fences_the_older_writer(self, tmp_path, records):
        old = DirectoryJournal(tmp_path, 1)
        for number in range(records):
            old.append({"n": number})
        with DirectoryJournal(tmp_path, 2) as new:
            for _ in range(2):
                with pytest.raises(SessionEnded, match="fenced"):
                    old.append({"n": "late"})
            with pytest.raises(SessionEnded, match="fenced"):
                old.replace([])
            new.append({"n": "new"})
        old.close()
        assert list(read_records(tmp_path)) == [*({"n": number} for number in range(records)), {"n": "new"}]

    def test_a_replaced_journal_still_fences_and_remembers_its_epoch(self, tmp_path):
        old = DirectoryJournal(tmp_path, 1)
        with DirectoryJournal(tmp_path, 2) as new:
            new.replace([{"n": 0}])
        with pytest.raises(SessionEnded, match="fenced"):
            old.append({})
        old.close()
        with pytest.raises(SessionEnded, match="lease epoch 2"):
            DirectoryJournal(tmp_path, 1)

    def test_a_deleted_file_ends_the_writer(self, tmp_path):
        with DirectoryJournal(tmp_path) as journal:
            journal.path.unlink()
            with pytest.raises(SessionEnded):
                journal.append({})


class TestReplace:
    def test_records_are_replaced_and_numbered_from_zero(self, tmp_path):
        filled(tmp_path, 5)
        with DirectoryJournal(tmp_path) as journal:
            journal.replace(record for record in journal.records() if record["number"] % 2)
            assert [record["number"] for record in journal.records()] == [1, 3]
            assert journal.append({"number": 9}) == 2
        assert [record["number"] for record in read_records(tmp_path)] == [1, 3, 9]

    def test_a_replacement_that_fails_leaves_all_as_it_was(self, tmp_path):
        filled(tmp_path, 3)
        with DirectoryJournal(tmp_path) as journal:
            with pytest.raises(InputError):
                journal.replace([{"n": 0}, {"n": float("nan")}])
            assert journal.append({"n": 3}) == 3
        assert len(list(read_records(tmp_path))) == 4
        assert not (tmp_path / f"{module.FILE_NAME}.new").exists()

    def test_a_crash_before_the_rename_keeps_the_old_records(self, tmp_path):
        filled(tmp_path, 2)
        (tmp_path / f"{module.FILE_NAME}.new").write_bytes(b'{"seq":0,"rec')
        with DirectoryJournal(tmp_path) as journal:
            assert len(journal) == 2
        assert not (tmp_path / f"{module.FILE_NAME}.new").exists()


def test_a_line_is_json_before_the_tab(tmp_path):
    filled(tmp_path, 1)
    body = (tmp_path / module.FILE_NAME).read_text().partition("\t")[0]
    assert json.loads(body) == {"seq": 0, "record": {"number": 0, "value": 0.0}}
