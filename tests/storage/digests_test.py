"""Tests of cellclass_tf.storage.digests."""

from cellclass_tf.storage import digests


def test_the_fingerprint_of_a_path_changes_with_its_content(tmp_path):
    path = tmp_path / "a"
    path.write_text("1")
    before = digests.fingerprint(path)
    assert before == digests.fingerprint(path)
    path.write_text("22")
    assert before != digests.fingerprint(path)
