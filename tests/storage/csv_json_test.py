"""Tests of cellclass_tf.storage.csv_json."""

import json

import pytest

from cellclass_tf.errors import InputError
from cellclass_tf.storage import csv_json


def test_texts_survive_a_round_trip_through_a_table(tmp_path):
    texts = ["a,b", 'say "a"', "two\nlines", "a\r\nb", "a\rb", "µm", " a ", ""]
    csv_json.write_csv(tmp_path / "a.csv", ["text"], ({"text": t} for t in texts))
    assert [row["text"] for row in csv_json.read_csv(tmp_path / "a.csv")] == texts


def test_a_column_may_have_any_name(tmp_path):
    csv_json.write_csv(tmp_path / "a.csv", ["n_a\rb", "c"], [{"n_a\rb": 1, "c": "\r"}])
    assert csv_json.read_csv(tmp_path / "a.csv") == [{"n_a\rb": "1", "c": "\r"}]


def test_columns_keep_their_order_and_missing_values_are_empty(tmp_path):
    rows = [{"a": None, "b": 2}, {"b": 0.5, "a": False}]
    csv_json.write_csv(tmp_path / "a.csv", ("b", "a"), rows)
    assert (tmp_path / "a.csv").read_bytes() == b"b,a\n2,\n0.5,False\n"


def test_a_table_saved_by_a_spreadsheet_is_read(tmp_path):
    # Byte order mark and line ends of Windows.
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfa,b\r\n1,\xc2\xb5\r\n")
    assert csv_json.read_csv(tmp_path / "a.csv") == [{"a": "1", "b": "µ"}]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_tables_of_any_spreadsheet_are_read(tmp_path, delimiter, encoding, end):
    lines = ["a,b", 'µ,"0,5"', ",x"]
    text = "".join(line.replace(",", delimiter, 1) + end for line in lines)
    (tmp_path / "a.csv").write_bytes(text.encode(encoding))
    assert csv_json.read_csv(tmp_path / "a.csv") == [
        {"a": "µ", "b": "0,5"},
        {"a": "", "b": "x"},
    ]


def test_the_delimiter_hint_of_excel_is_not_a_row(tmp_path):
    (tmp_path / "a.csv").write_text("sep=;\na,b;c\n1;2\n")
    assert csv_json.read_csv(tmp_path / "a.csv") == [{"a,b": "1", "c": "2"}]


def test_a_table_in_an_unknown_encoding_is_rejected_by_name(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"a\n\x81\x8d\n")
    with pytest.raises(InputError, match=r"a\.csv: expected UTF-8.*as 'CSV UTF-8'"):
        csv_json.read_csv(tmp_path / "a.csv")


def test_a_row_that_cannot_be_written_leaves_the_old_table(tmp_path):
    csv_json.write_csv(tmp_path / "a.csv", ["a"], [{"a": 1}])
    with pytest.raises(ValueError, match="'b'"):
        csv_json.write_csv(tmp_path / "a.csv", ["a"], [{"a": 2}, {"b": 3}])
    assert csv_json.read_csv(tmp_path / "a.csv") == [{"a": "1"}]
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_json_keeps_the_order_of_keys_and_ends_with_a_line_break(tmp_path):
    value = {"b": [1, None], "a": {"name": "µ"}}
    csv_json.write_json(tmp_path / "new" / "a.json", value)
    text = (tmp_path / "new" / "a.json").read_text(encoding="utf-8")
    assert text.startswith('{\n  "b": [')
    assert text.endswith("}\n")
    assert json.loads(text) == value
    with pytest.raises(TypeError, match="set"):
        csv_json.write_json(tmp_path / "new" / "a.json", {"a": {1}})
    assert (tmp_path / "new" / "a.json").read_text(encoding="utf-8") == text


def test_a_damaged_or_missing_json_object_is_empty(tmp_path):
    path = tmp_path / "a.json"
    assert csv_json.read_json_object(path) == {}
    csv_json.write_json(path, {"a": 1})
    assert csv_json.read_json_object(path) == {"a": 1}
    for content in (b"[1]", b'{"a": ', b"\xff"):
        path.write_bytes(content)
        assert csv_json.read_json_object(path) == {}


def test_missing_cells_are_empty_and_surplus_cells_are_an_error(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a,b\n1\n2,3,\n")
    assert csv_json.read_csv(path) == [{"a": "1", "b": ""}, {"a": "2", "b": "3"}]
    path.write_text("a,b\n1,2\n3,4,5\n")
    with pytest.raises(InputError, match=r"a\.csv, line 3: expected at most 2 cells"):
        csv_json.read_csv(path)


def test_a_file_that_is_not_a_table_is_rejected_by_name(tmp_path):
    (tmp_path / "a.csv").write_text("a\n" + "x" * 200_000)
    with pytest.raises(InputError, match=r"a\.csv: expected a CSV table"):
        csv_json.read_csv(tmp_path / "a.csv")


def test_a_column_without_a_header_is_read_and_two_of_one_name_are_an_error(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a,,b,\n1,,2,ask Bo\n3,,4,\n")
    assert csv_json.read_csv(path) == [
        {"a": "1", "": "ask Bo", "b": "2"},
        {"a": "3", "": "", "b": "4"},
    ]
    path.write_text("a,,b,\n1,look,2,ask Bo\n")
    with pytest.raises(InputError, match=r"a\.csv, line 2: .*'look' and 'ask Bo'"):
        csv_json.read_csv(path)
    path.write_text("a,note,note\n1,2,3\n")
    with pytest.raises(InputError, match=r"a\.csv: expected .* found 2 .* 'note'"):
        csv_json.read_csv(path)
