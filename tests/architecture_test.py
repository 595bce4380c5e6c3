"""The rules that keep the rooms apart, and importing light."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "cellclass_tf"
STAGES = ("microscopy", "annotation", "datasets", "maskrcnn", "analysis")
NOUNS = (
    "process_state",
    "files",
    "cells",
    "micrograph",
    "manifest",
    "study",
    "average_precision",
    "caption",
    "matching",
    "picture",
    "scenes",
    "splits",
    "tiling",
    "connected",
    "outlines",
    "overlay",
    "run_lengths",
)
# What runs a stage's function over many files.
ENGINES = ("batch", "jobs", "local_engine", "beam_engine")
# Modules that put stages together.
ABOVE_STAGES = (
    "cli",
    "command_calls",
    "commands",
    "composed_fields",
    "demonstration",
    "napari_plugin",
    "prediction",
    "simulated_fields",
)


def imports_of(path: pathlib.Path) -> set[str]:
    """Every module that a file names in an import, at its top or in a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{a.name}" for a in node.names}
    return found


def rooms(path: pathlib.Path) -> set[str]:
    """The rooms of the package that a file imports from."""
    return {
        name.split(".")[1]
        for name in imports_of(path)
        if name.startswith("cellclass_tf.")
    } - {"__version__"}


def files_of(*names: str) -> list[pathlib.Path]:
    return [
        path
        for name in names
        for path in (
            [PACKAGE / f"{name}.py"] if (PACKAGE / f"{name}.py").exists() else []
        )
        + sorted((PACKAGE / name).rglob("*.py"))
    ]


@pytest.mark.parametrize("path", files_of(*NOUNS), ids=lambda p: p.stem)
def test_nouns_know_no_stage(path):
    assert rooms(path) <= set(NOUNS)


@pytest.mark.parametrize("path", files_of("provenance"), ids=lambda p: p.stem)
def test_provenance_reads_records_alone(path):
    assert rooms(path) <= {*NOUNS, "provenance"}


@pytest.mark.parametrize("path", files_of(*ENGINES), ids=lambda p: p.stem)
def test_engines_know_no_stage(path):
    assert rooms(path) <= {*NOUNS, *ENGINES}


@pytest.mark.parametrize("stage", STAGES)
def test_stages_do_not_know_each_other(stage):
    for path in files_of(stage):
        assert rooms(path) <= {*NOUNS, "batch", stage}, path


def test_only_the_command_line_imports_the_builders_and_nothing_the_experiments():
    for path in PACKAGE.rglob("*.py"):
        names = {name.split(".")[0] for name in imports_of(path)}
        assert "experiments" not in names
        if path.stem not in ("command_calls", "demonstration"):
            assert "tfds_builders" not in names, path


def test_heavy_libraries_stay_in_their_rooms():
    for path in PACKAGE.rglob("*.py"):
        names = {name.split(".")[0] for name in imports_of(path)}
        if path.parent.name != "finetuning" and not path.stem.startswith("cellpose_"):
            assert not names & {"cellpose", "torch"}, path
        if path.parent.name != "maskrcnn":
            assert not names & {"official", "tf_keras", "tensorflow"}, path
        if path.stem in ("predictor", "outlining"):
            assert "official" not in names


def test_what_a_process_shares_is_changed_in_one_place_alone():
    # What changes it, and the modules that put it back.
    owners = {
        "os.environ": ("process_state", "hardware", "local_engine"),
        "MAX_IMAGE_PIXELS =": ("process_state", "files"),
        "redirect_stdout": (),
        "set_global_policy": ("keras_state",),
        "set_random_seed": ("keras_state",),
        "np.random.seed": (),
        "matplotlib.use": ("process_state",),
        "simplefilter": ("cellpose_annotator",),
        "setLevel": ("process_state",),
        "addHandler": ("tiff",),
        "list_physical_devices": ("hardware",),
    }
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for what, modules in owners.items():
            assert what not in text or path.stem in modules, (path, what)


def test_model_garden_is_imported_where_it_cannot_choose_a_backend():
    for path in PACKAGE.rglob("*.py"):
        names = imports_of(path)
        if path.stem != "model_garden":
            assert not any(n.startswith("official.vision") for n in names), path


def test_every_public_module_has_a_test():
    for path in PACKAGE.rglob("*.py"):
        if path.stem.startswith("_") or path.stem in UNTESTED_ALONE:
            continue
        folder = ROOT / "tests" / path.parent.relative_to(PACKAGE)
        assert (folder / f"{path.stem}_test.py").exists(), path


# What these do is seen only together with their neighbour, whose test it is.
UNTESTED_ALONE = {
    "base": "readers",
    "png": "readers",
    "drawing": "field",
    "looks": "field",
    "placement": "field",
    "caption": "overlay",
    "picture": "overlay",
    "export": "training",
    "loop": "training",
    "model_garden": "network",
    "runs": "training",
    "validation": "tiles",
    "prediction": "training",
    "micrograph": "readers",
    "jobs": "batch",
    "manifest": "study",
    "one_file": "conversion",
    "focus": "quality",
    "links": "tracing",
    "demonstration": "cli",
    "commands": "cli",
    "command_calls": "cli",
    "charts": "report",
    "sources": "comparison",
    "records": "annotating",
    "importing": "mask_files",
    "annotator": "watershed_annotator",
}


def test_importing_is_light():
    code = (
        "import sys, cellclass_tf; heavy = {'tensorflow', 'torch', 'cellpose', 'scipy', "
        "'tf_keras', 'skimage', 'pandas'}; assert not heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_every_public_name_loads():
    code = "import cellclass_tf as cc; [getattr(cc, name) for name in cc.__all__]"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
