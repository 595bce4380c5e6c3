"""Tests of cellclass_tf.storage.ledger."""

import pytest

from cellclass_tf.errors import InputError
from cellclass_tf.storage import atomic, ledger
from cellclass_tf.storage.ledger import Ledger, Written


@pytest.fixture
def path(tmp_path):
    return tmp_path / ".journal" / "ledger.json"


def test_a_ledger_knows_only_what_was_written(path):
    book = Ledger(path)
    assert book.facts_of("a", "old") is None
    for state in ("old", "new"):
        with book.recording({"a": Written(state, {"of": state})}):
            pass
        book = Ledger(path)
    assert book.facts_of("a", "new") == {"of": "new"}
    # An old version that a person restored counts as the person's.
    assert book.facts_of("a", "old") is None
    assert book.facts_of("b", "new") is None
    assert not book.is_pending("a")


def test_after_a_crash_both_states_are_known_until_one_is_settled(path):
    with Ledger(path).recording({"a": Written(1), "b": Written("x")}):
        pass
    for state in (2, 3):
        with (
            pytest.raises(KeyboardInterrupt),
            Ledger(path).recording({"a": Written(state)}),
        ):
            raise KeyboardInterrupt
    book = Ledger(path)
    assert [written.state for written in book.known("a")] == [3, 2, 1]
    assert book.is_pending("a")
    assert not book.is_pending("b")
    book.settle("a", 1)
    book = Ledger(path)
    assert [written.state for written in book.known("a")] == [1]
    assert not book.is_pending("a")
    assert book.facts_of("b", "x") == {}


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"a": [1]}', b"\xff"])
def test_a_damaged_ledger_counts_as_empty_and_is_replaced(path, content):
    path.parent.mkdir()
    path.write_bytes(content)
    book = Ledger(path)
    assert book.known("a") == []
    with book.recording({"a": Written(["1", ""])}):
        pass
    assert Ledger(path).facts_of("a", ["1", ""]) == {}


def write(root, text, **options):
    with ledger.replace(root, root / "out" / "a.txt", **options) as temporary:
        temporary.write_text(text)


def test_a_result_is_replaced_unless_a_person_changed_it(tmp_path):
    path = tmp_path / "out" / "a.txt"
    write(tmp_path, "one")
    write(tmp_path, "two")
    assert path.read_text() == "two"
    assert ledger.is_own(tmp_path, path)
    path.write_text("mine")
    with pytest.raises(InputError, match=r"a.txt already exists, and was changed"):
        write(tmp_path, "three")
    assert path.read_text() == "mine"
    write(tmp_path, "three", overwrite=True)
    assert path.read_text() == "three"
    (kept,) = (tmp_path / ".trash").rglob("a.txt")
    assert kept.read_text() == "mine"
    ledger.remove(tmp_path, path)
    assert not path.exists()


def test_a_file_that_a_person_saves_meanwhile_is_kept(tmp_path):
    write(tmp_path, "one")
    path = tmp_path / "out" / "a.txt"

    def replace_while_a_person_saves():
        with ledger.replace(tmp_path, path) as temporary:
            temporary.write_text("two")
            path.write_text("mine")

    with pytest.raises(InputError, match="already exists, and was changed"):
        replace_while_a_person_saves()
    assert path.read_text() == "mine"
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_existing_links_and_folders_count_as_a_persons(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").write_text("mine")
    path = tmp_path / "out" / "a.txt"
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="already exists"):
        write(tmp_path, "two")
    ledger.remove(tmp_path, path)
    path.mkdir()
    with pytest.raises(InputError, match="already exists"):
        write(tmp_path, "two")
    assert (tmp_path / "elsewhere").read_text() == "mine"


def test_folders_that_were_being_replaced_are_restored(tmp_path):
    path = tmp_path / "HEK" / "a.ome.zarr"
    with ledger.replace(tmp_path, path, folder=True) as temporary:
        (temporary / "whole").touch()
    # As a process leaves them that is killed between two steps of a change of places,
    # once of the folder itself and once of one half-written; no process has that number.
    path.rename(path.with_name(".old-a.ome.zarr"))
    writer = atomic._writer(2**22 + 1)
    (path.parent / f".old-.part-{writer}-1").mkdir()
    (path.parent / f".part-{writer}-2").mkdir()
    ledger.remove_leftovers(tmp_path)
    assert [file.name for file in path.parent.iterdir()] == ["a.ome.zarr"]
    assert (path / "whole").exists()
    assert ledger.is_own(tmp_path, path)


def test_results_that_still_exist_are_listed(tmp_path):
    for name in ("b.zip", "HEK/a.1.ome.zarr", "gone.zip"):
        path = tmp_path / name
        with ledger.replace(tmp_path, path, folder=path.suffix == ".zarr"):
            pass
    (tmp_path / "gone.zip").unlink()
    (tmp_path / "b.zip").write_text("edited")
    (tmp_path / "other.zip").write_text("mine")
    found = [
        path.relative_to(tmp_path).as_posix() for path in ledger.results_of(tmp_path)
    ]
    assert found == ["HEK/a.1.ome.zarr", "b.zip"]
