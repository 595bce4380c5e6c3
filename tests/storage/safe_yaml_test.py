"""Tests of cellclass_tf.storage.safe_yaml."""

import pytest

from cellclass_tf.core.study import Study
from cellclass_tf.errors import InputError
from cellclass_tf.storage.safe_yaml import read_yaml

# Each line stands for nine of the line before: 9^9 values.
BOMB = 'a: &a ["lol"]\n' + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefghi", "bcdefghij", strict=False)
)


def test_plain_values_are_read_with_a_byte_order_mark(tmp_path):
    (tmp_path / "a.yaml").write_bytes("\ufeffa: [1, 'ä']\nb: null\n".encode())
    assert read_yaml(tmp_path / "a.yaml") == {"a": [1, "ä"], "b": None}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (BOMB, r"aliases \(\*\) are not supported"),
        ("a: &x 1\nb: *x\n", "aliases"),
        ("[" * 5000, "expected YAML"),
        ("a: [1", "expected YAML"),
        ("a: !!python/object/apply:os.system ['true']", "expected YAML"),
        ("#" * (1 << 20) + "\na: 1", "has 1,048,581 bytes"),
    ],
)
def test_harmful_yaml_is_rejected(tmp_path, text, reason):
    path = tmp_path / "study.yaml"
    path.write_text(text)
    for read in (lambda: read_yaml(path), lambda: Study.open(tmp_path)):
        with pytest.raises(InputError, match=f"study.yaml.*{reason}"):
            read()


def test_missing_files_and_invalid_utf8_are_rejected(tmp_path):
    with pytest.raises(InputError, match="found nothing"):
        read_yaml(tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_bytes(b"a: \xff")
    with pytest.raises(InputError, match="expected YAML"):
        read_yaml(tmp_path / "a.yaml")
