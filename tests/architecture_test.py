"""Tests of the rules for imports, modules and layers."""

import ast
import pathlib
import re
import subprocess
import sys

import pytest

import cellclass_tf
from tests import structure
from tests.structure import imports_of

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "cellclass_tf"
DOCS = ROOT / "docs"
UNITS = structure.unit_graph(ROOT)
# A unit imports units of the layers above its own line; docs/architecture.md lists the same.
LAYERS = (
    ("errors", "messages", "process_state", "versions"),
    ("storage",),
    ("core",),
    ("labels", "splits", "batch"),
    ("drawing",),
    ("microscopy", "annotation", "datasets", "maskrcnn", "analysis", "provenance"),
    ("interchange",),
    ("workflows",),
    ("cli", "napari"),
)


def test_every_unit_has_a_layer():
    assert sorted(UNITS) == sorted(unit for layer in LAYERS for unit in layer)


@pytest.mark.parametrize("unit", [unit for layer in LAYERS for unit in layer])
def test_imports_point_to_lower_layers(unit):
    place = next(i for i, layer in enumerate(LAYERS) if unit in layer)
    lower = {other for layer in LAYERS[:place] for other in layer}
    assert UNITS[unit] <= lower


def test_no_modules_import_each_other_in_a_circle():
    assert not structure.cycles_of(UNITS)
    assert not structure.cycles_of(structure.module_graph(ROOT))


def test_the_architecture_page_lists_the_layers():
    text = " ".join((DOCS / "architecture.md").read_text(encoding="utf-8").split())
    listed = " ← ".join(", ".join(f"`{unit}`" for unit in layer) for layer in LAYERS)
    assert listed in text


def test_type_checkers_see_every_public_name_where_it_is_loaded_from():
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    shown = {
        alias.name: node.module
        for node in block.body
        for alias in node.names
        if isinstance(node, ast.ImportFrom)
    }
    loaded = {
        name: f"cellclass_tf.{module}"
        for name, module in cellclass_tf._MODULE_OF_NAME.items()
    }
    assert shown == loaded


def test_imports_inside_functions_count(tmp_path):
    package = tmp_path / "cellclass_tf"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "a.py").write_text("def f():\n    from cellclass_tf import b\n")
    (package / "b.py").write_text("import cellclass_tf.c\n")
    (package / "c.py").write_text("from cellclass_tf.a import f\n")
    assert structure.cycles_of(structure.module_graph(tmp_path)) == [
        {f"cellclass_tf.{name}" for name in "abc"}
    ]
    assert structure.levels_of({"x": {"y"}, "y": {"z"}, "z": set()}) == {
        "x": 3,
        "y": 2,
        "z": 1,
    }


def test_only_the_command_line_imports_the_builders_and_nothing_the_experiments():
    for path in PACKAGE.rglob("*.py"):
        names = {name.split(".")[0] for name in imports_of(path)}
        assert "experiments" not in names
        if path not in (
            PACKAGE / "cli" / "calls.py",
            PACKAGE / "workflows" / "training.py",
        ):
            assert "tfds_builders" not in names, path


def test_heavy_libraries_are_imported_only_in_their_own_modules():
    for path in PACKAGE.rglob("*.py"):
        names = {name.split(".")[0] for name in imports_of(path)}
        if path.parent.name != "finetuning" and not path.stem.startswith("cellpose"):
            assert "cellpose" not in names, path
            # ImageNet weights are in a file of torch.
            assert "torch" not in names or path.stem == "imagenet", path
        if PACKAGE / "maskrcnn" not in path.parents:
            assert not names & {"official", "tf_keras", "tensorflow"}, path
        if path.stem in ("predictor", "postprocessing"):
            assert "official" not in names


def test_the_state_of_the_process_is_changed_only_in_its_own_modules():
    # Code that changes the state, and the modules that restore it.
    owners = {
        "os.environ": ("process_state", "hardware", "local"),
        "MAX_IMAGE_PIXELS =": ("process_state", "png"),
        "redirect_stdout": (),
        "set_global_policy": ("keras_state",),
        "set_random_seed": ("keras_state",),
        "np.random.seed": (),
        "matplotlib.use": ("process_state",),
        "simplefilter": ("cellpose",),
        "setLevel": ("process_state", "messages"),
        "addHandler": ("tiff_log", "messages"),
        "list_physical_devices": ("hardware",),
    }
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for what, modules in owners.items():
            assert what not in text or path.stem in modules, (path, what)


def test_model_garden_is_imported_in_one_module_that_keeps_the_backend():
    for path in PACKAGE.rglob("*.py"):
        names = imports_of(path)
        if path.stem != "model_garden":
            assert not any(n.startswith("official.vision") for n in names), path


# Modules without a test of their own, and why.
UNTESTED_ALONE = {
    "maskrcnn/model_garden": "names of other modules; network_test uses them all",
    "versions": "numbers; who uses one is tested where it is used",
}


def test_every_public_module_has_a_test():
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE).with_suffix("").as_posix()
        if not path.stem.startswith("_") and name not in UNTESTED_ALONE:
            assert (ROOT / "tests" / f"{name}_test.py").exists(), name
    assert all((PACKAGE / f"{name}.py").exists() for name in UNTESTED_ALONE)


def test_importing_is_light():
    code = (
        "import sys, cellclass_tf; heavy = {'tensorflow', 'torch', 'cellpose', 'scipy', "
        "'tf_keras', 'skimage', 'pandas'}; assert not heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_every_public_name_loads_and_no_other_is_listed():
    code = (
        "import cellclass_tf as cc; assert {*cc.__all__, '__version__'} == {*dir(cc)}; "
        "[getattr(cc, name) for name in dir(cc)]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_stages_replace_their_own_columns_of_the_manifest_alone():
    calls = []
    for path in [*PACKAGE.rglob("*.py"), *(ROOT / "tfds_builders").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            is_update = isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
                "study.update"
            )
            if is_update:
                calls.append(node)
                assert len(node.args) > 1, (path, ast.unparse(node))
    assert len(calls) > 5


def test_every_test_that_the_documentation_names_is_there():
    named = re.findall(
        r"\[(test_\w+)\]\(\.\./(tests/[\w/]+\.py)\)",
        "".join(path.read_text(encoding="utf-8") for path in DOCS.glob("*.md")),
    )
    assert len(named) > 50
    for test, path in named:
        assert f"def {test}(" in (ROOT / path).read_text(encoding="utf-8"), (path, test)
