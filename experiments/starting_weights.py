"""Trains the starting weights of `--init=simulated`, for the detector and the namer.

    python -m experiments.starting_weights --folder=/tmp/starting_weights \
        --output=cellclass_tf/maskrcnn --steps=2000

Detector and namer of the small experiment are trained on simulated fields of HEK, N2a and
cell types with random appearance, under conditions that differ from field to field. An
interrupted run continues. On the same machine, the same arguments give nearly the same
weights; small differences remain, because the order in which threads add numbers is not
fixed.
"""

from __future__ import annotations

import pathlib
import sys

import numpy as np
from absl import app, flags

import cellclass_tf as cc
from cellclass_tf import process_state
from cellclass_tf.core import cells as nouns
from cellclass_tf.core.manifest import ImageRow
from cellclass_tf.datasets import simulation
from cellclass_tf.datasets.culture import field, looks, variety
from cellclass_tf.storage import png

EXPERIMENT = "cellclass_maskrcnn_small"
# The fields already vary a lot; augmentation adds the variation of microscopes and users.
_AUGMENTATION = (
    "task.train_data.parser.aug_scale_min=0.6,task.train_data.parser.aug_scale_max=1.6,"
    "task.train_data.gain=0.8,task.train_data.gamma=0.6,task.train_data.blur=1.5,"
    "task.train_data.noise=0.03,task.train_data.composed_share=0.4"
)


def make_study(
    root: pathlib.Path, *, types: int, fields: int, size_px: int, seed: int
) -> cc.Study:
    """Makes a study of simulated fields; the last field of each type is for validation.

    Args:
      root: folder of the study; a complete study is opened.
      types: number of cell types with random appearance.
      fields: number of fields of each type.
      size_px: width and height of a field.
      seed: random seed.
    """
    known = {
        f"random{i + 1:02d}": variety.random_look(np.random.default_rng([seed, i]))
        for i in range(types)
    } | dict(field.LOOKS)
    study = cc.Study.open_or_create(root, list(known), simulation.PIXEL_SIZE_UM)
    if len(study.rows()) == len(known) * fields:
        return study
    rows = []
    for place, (name, look) in enumerate(known.items()):
        for number in range(fields):
            rng = np.random.default_rng([seed, place, number, 1])
            image, labels = draw_field(name, look, size_px, rng)
            stem = f"{name}_{number + 1:04d}"
            split = "validation" if number == fields - 1 else "train"
            row = ImageRow(f"{name}/{stem}.png", name, group=stem, split=split)
            png.write_png(study.image_path(row), image)
            cells = nouns.Cells.from_labels(labels, study.cell_types, name)
            cells.write(study.cells_path(row))
            rows.append(row)
    study.update(rows)
    return study


def draw_field(
    name: str, look: looks.CellTypeLook, size_px: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Simulates a field with at least one cell, under random conditions.

    Returns:
      The merged image, (H, W, 3) uint8, and its labels, (H, W) int32.
    """
    while True:
        found = field.simulate_field(
            {name: 1.0},
            size_px=size_px,
            rng=rng,
            dish=variety.random_dish(rng, look.area_um2),
            pixel_size_um=simulation.PIXEL_SIZE_UM,
            looks={name: look},
        )
        if found.cell_types:
            return merge(found.pixels, rng), found.labels


def merge(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Merges two channels with random contrast limits, and sometimes unusual appearance.

    In 10 % of the fields the cytoplasm is dark on a bright background, in 10 % it is grey
    with bright and dark edges as in phase contrast, in 5 % the nuclei are missing, and in
    10 % the channels are swapped.

    Args:
      pixels: (2, H, W) camera counts; nuclei, then cytoplasm.
      rng: random generator.

    Returns:
      (H, W, 3) uint8; red 0, green cytoplasm, blue nuclei.
    """
    nuclei, cytoplasm = (_stretched(plane, rng) for plane in pixels)
    kind = rng.random()
    if kind < 0.1:
        cytoplasm = rng.uniform(0.6, 1) - rng.uniform(0.3, 0.6) * cytoplasm
    elif kind < 0.2:
        cytoplasm = _as_phase_contrast(cytoplasm, rng)
    if rng.random() < 0.05:
        nuclei = np.zeros_like(nuclei)
    if rng.random() < 0.1:
        nuclei, cytoplasm = cytoplasm, nuclei
    image = np.stack([np.zeros_like(nuclei), cytoplasm, nuclei], axis=-1)
    return np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)


def _stretched(plane: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns a channel between random contrast limits, float64 in [0, 1]."""
    low, high = np.quantile(plane, [rng.uniform(0, 0.05), rng.uniform(0.98, 0.9995)])
    return np.clip((plane - low) / max(high - low, 1), 0, 1)


def _as_phase_contrast(plane: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns a grey channel in which only local differences of brightness remain."""
    from scipy import ndimage

    relief = plane - ndimage.gaussian_filter(plane, rng.uniform(3, 9))
    return rng.uniform(0.3, 0.55) + rng.choice([-1, 1]) * rng.uniform(0.5, 1) * relief


def train(
    folder: pathlib.Path, study: cc.Study, *, steps: int, seed: int, override: str
) -> pathlib.Path:
    """Trains both networks of the small experiment from random weights.

    Args:
      folder: working folder.
      study: the simulated fields.
      steps: number of training steps of the detector, and of the namer.
      seed: random seed.
      override: overrides of the experiment's parameters.

    Returns:
      The run's folder.
    """
    # TensorFlow is imported only now, after the settings of `begin_program`.
    import tfds_builders
    from cellclass_tf.maskrcnn import training, weights

    tfds_builders.dataset(study)
    # The learning rate decays to zero, so the last weights are the best ones.
    once = f"trainer.validation_interval={steps}"
    namer = f"task.namer_steps={steps}"
    override = ",".join(filter(None, (_AUGMENTATION, once, namer, override)))
    return training.train(
        EXPERIMENT,
        folder / "training",
        study=study.root,
        steps=steps,
        init=weights.RANDOM,
        seed=seed,
        params_override=override,
    )


def write_weights(run: pathlib.Path, output: pathlib.Path) -> None:
    """Writes the weights of a run to the files that are shipped with the package.

    Args:
      run: folder of a run with a namer.
      output: folder that stands for `cellclass_tf/maskrcnn`.

    Raises:
      InputError: if the run has no namer.
    """
    from cellclass_tf.maskrcnn import named_weights, network, runs, weights
    from cellclass_tf.maskrcnn.cell_namer import finished
    from cellclass_tf.maskrcnn.cell_namer import network as namer_network
    from cellclass_tf.maskrcnn.cell_namer import weights as namer_weights

    found = finished.load(run)
    if found is None:
        raise cc.InputError(f"{run}: the run has no namer. Train without --override.")
    namer, _ = found
    task = runs.load_params(EXPERIMENT, run).task
    model = network.build_model(task, task.model.input_size[0])
    runs.restore(model, runs.checkpoint_in(run))
    package = weights.SIMULATED_FILE.parent
    for variables, shipped in (
        (named_weights.named(model), weights.SIMULATED_FILE),
        (namer_network.named(namer), namer_weights.SIMULATED_FILE),
    ):
        path = output / shipped.relative_to(package)
        path.parent.mkdir(parents=True, exist_ok=True)
        named_weights.write(variables, path)


def main(_: list[str]) -> int:
    """Makes the fields, trains on them, and writes the weights."""
    given = flags.FLAGS
    folder = pathlib.Path(given.folder)
    try:
        study = make_study(
            folder / "study",
            types=given.types,
            fields=given.fields,
            size_px=given.size,
            seed=given.seed,
        )
        run = train(
            folder, study, steps=given.steps, seed=given.seed, override=given.override
        )
        write_weights(run, pathlib.Path(given.output))
    except cc.InputError as error:
        print(f"starting_weights: {error}", file=sys.stderr)
        return 2
    print(given.output)
    return 0


def define_flags() -> None:
    """Defines the flags of this program."""
    flags.DEFINE_string("folder", None, "Working folder.", required=True)
    flags.DEFINE_string(
        "output",
        None,
        "Folder to write to: starting_weights.npz of the detector, and "
        "cell_namer/starting_weights.npz of the namer.",
        required=True,
    )
    flags.DEFINE_integer(
        "steps", 2000, "Number of training steps of the detector, and of the namer."
    )
    flags.DEFINE_integer("types", 12, "Number of cell types with random appearance.")
    flags.DEFINE_integer("fields", 16, "Number of fields per type; one is held out.")
    flags.DEFINE_integer("size", 448, "Width of a field in px.")
    flags.DEFINE_integer("seed", 0, "Random seed.")
    flags.DEFINE_string("override", "", "Overrides of the experiment's parameters.")


if __name__ == "__main__":
    process_state.begin_program()
    define_flags()
    app.run(main)
