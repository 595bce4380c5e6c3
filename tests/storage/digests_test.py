"""Tests of cellclass_tf.storage.digests."""

import hashlib

import pytest

from cellclass_tf.storage import digests


def test_the_fingerprint_of_a_path_changes_with_its_content(tmp_path):
    path = tmp_path / "a"
    path.write_text("1")
    before = digests.fingerprint(path)
    assert before == digests.fingerprint(path)
    path.write_text("22")
    assert before != digests.fingerprint(path)


@pytest.mark.parametrize(("name", "folder"), [("a.oif", "a.oif.files"), ("b", "b")])
def test_the_fingerprint_of_a_path_changes_with_the_files_in_its_folder(
    tmp_path, name, folder
):
    path, inner = tmp_path / name, tmp_path / folder / "deep" / "plane.tif"
    inner.parent.mkdir(parents=True)
    if name != folder:
        path.touch()
    seen = {digests.fingerprint(path)}
    for text in ("1", "22"):
        inner.write_text(text)
        seen.add(digests.fingerprint(path))
        assert digests.fingerprint(path) in seen
    inner.rename(inner.with_name("other.tif"))
    seen.add(digests.fingerprint(path))
    assert len(seen) == 4


def test_a_path_is_hashed_with_the_files_that_belong_to_it(tmp_path):
    path = tmp_path / "a.oif"
    path.write_bytes(b"1")
    assert digests.sha256_of_path(path) == hashlib.sha256(b"1").hexdigest()
    planes = tmp_path / "a.oif.files"
    planes.mkdir()
    (planes / "s_C001.tif").write_bytes(b"2")
    tree = digests.sha256_of_tree(planes)
    assert digests.sha256_of_path(planes) == tree
    both = hashlib.sha256(b"1").hexdigest() + tree
    assert digests.sha256_of_path(path) == hashlib.sha256(both.encode()).hexdigest()


def test_the_size_of_a_path_includes_the_files_that_belong_to_it(tmp_path):
    path, planes = tmp_path / "a.oif", tmp_path / "a.oif.files"
    path.write_bytes(b"12")
    assert digests.size_of_path(path) == 2
    (planes / "inner").mkdir(parents=True)
    (planes / "inner" / "s_C001.tif").write_bytes(b"345")
    assert digests.size_of_path(planes) == 3
    assert digests.size_of_path(path) == 5
