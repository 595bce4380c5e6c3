"""Compares the input pipeline of training with Model Garden's own.

python -m experiments.benchmarks.input_path --folder=/tmp/input_path

The same fields of 1104 x 1104 px are read as TFDS examples with one label image, and as
TFExamples with one PNG per cell for Model Garden's decoder and parser. Both make crops of 512 x
512 px at the fields' own scale, with the same anchors, masks of the same size and the same maximum
number of cells. Each is measured in separate processes, in turn.
"""

from __future__ import annotations

import functools
import json
import pathlib
import statistics
import time

import numpy as np
from absl import app, flags

from experiments.benchmarks import processes

_FOLDER = flags.DEFINE_string("folder", None, "Working folder.", required=True)
_CELLS = flags.DEFINE_list("cells", ["110", "300"], "Numbers of cells per field.")
_ROUNDS = flags.DEFINE_integer("rounds", 3, "Number of measurements of each.")
_IMAGES = flags.DEFINE_integer("images", 64, "Number of images per measurement.")
_ONE = flags.DEFINE_string(
    "one", None, "For internal use: part to measure in a separate process."
)

_SIZE_PX = 1104
_CROP_PX = 512
_FIELDS = 8
_BATCH = 4
# 300 cells of the usual size do not fit into a field.
_PIXEL_SIZE_UM = {110: 0.325, 300: 0.45}
_SHARDS = "stock.tfrecord"

_WHOLE = ("stock", "ours", "ours, all augmentation")
_ANCHORS = "part for anchor targets"
_AUGMENTATION = "additional time for all augmentation"
_STEPS = ("decode", "crop and targets", _ANCHORS, _AUGMENTATION)


def main(_) -> None:
    """Prints the tables."""
    if _ONE.value:
        print(json.dumps(_measured(*_ONE.value.split("|"))))
        return
    folder = pathlib.Path(_FOLDER.value)
    print(
        "| cells per field | path | images/s | ratio | peak MB "
        "| peak MB minus an empty process |"
    )
    print("|---|---|---|---|---|---|")
    for cells in _CELLS.value:
        root = folder / cells
        if not (root / _SHARDS).exists():
            _make(root, int(cells))
        empty = _run(root, "empty")["peak"]
        found: dict[str, list[dict]] = {name: [] for name in _WHOLE}
        for _ in range(_ROUNDS.value):
            for name in _WHOLE:
                found[name].append(_run(root, name))
        rate = {k: statistics.median(f["rate"] for f in v) for k, v in found.items()}
        peak = {k: statistics.median(f["peak"] for f in v) for k, v in found.items()}
        for name in _WHOLE:
            print(
                f"| {cells} | {name} | {rate[name]:.2f} | "
                f"{rate[name] / rate['stock']:.1f} | {peak[name]:.0f} | "
                f"{peak[name] - empty:.0f} |"
            )
    print("\nMilliseconds per image, on one core:\n")
    print("| cells per field | path | " + " | ".join(_STEPS) + " |")
    print("|---|---|" + "---|" * len(_STEPS))
    for cells in _CELLS.value:
        for path in ("stock", "ours"):
            steps = _run(folder / cells, f"steps of {path}")
            shown = [f"{steps[s]:.1f}" if s in steps else "" for s in _STEPS]
            print(f"| {cells} | {path} | " + " | ".join(shown) + " |")


def _run(root: pathlib.Path, what: str) -> dict:
    flags = {"folder": root, "images": _IMAGES.value, "one": f"{root}|{what}"}
    return processes.run_again(__spec__.name, **flags)


def _measured(folder: str, what: str) -> dict:
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")
    root = pathlib.Path(folder)
    if what.startswith("steps"):
        return _steps(root, what.removeprefix("steps of "))
    rate = 0.0
    if what == "empty":
        _params(root)
    else:
        batches = iter(_batches(root, what))
        # The first batches fill buffers and determine the number of threads.
        for _ in range(_IMAGES.value // _BATCH // 2):
            next(batches)
        start = time.perf_counter()
        for _ in range(_IMAGES.value // _BATCH):
            next(batches)
        rate = _IMAGES.value / (time.perf_counter() - start)
    return {"rate": rate, "peak": processes.peak_mb()}


def _steps(root: pathlib.Path, path: str) -> dict:
    """Returns the median milliseconds of each step over the fields."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    params = _params(root)
    _plain(params)
    found: dict[str, list[float]] = {step: [] for step in _STEPS}
    timed = _stock_steps if path == "stock" else _our_steps
    for number in range(_FIELDS):
        for step, seconds in timed(root, params, number).items():
            found[step].append(seconds * 1e3)
    return {step: statistics.median(v) for step, v in found.items() if v}


@functools.cache
def _compiled(function):
    import tensorflow as tf

    return tf.function(function)


def _timed(function, *arguments):
    """Returns a function's result and its seconds, after a first call that compiles it."""
    compiled = _compiled(function)
    compiled(*arguments)
    start = time.perf_counter()
    found = compiled(*arguments)
    return found, time.perf_counter() - start


def _stock_steps(root: pathlib.Path, params, number: int) -> dict:
    import tensorflow as tf

    if "stock" not in _KEPT:
        _KEPT["stock"] = _stock(params)
    decode, parse = _KEPT["stock"]
    record = next(iter(tf.data.TFRecordDataset(str(root / _SHARDS)).skip(number)))
    fields, decoding = _timed(decode, record)
    (_, labels), parsing = _timed(parse, fields)
    return {
        "decode": decoding,
        "crop and targets": parsing,
        _ANCHORS: _anchor_seconds(params, labels, seeded=False),
    }


def _our_steps(root: pathlib.Path, params, number: int) -> dict:
    import tensorflow as tf

    from cellclass_tf.maskrcnn.input import pipeline, reading

    data = params.task.train_data
    if "ours" not in _KEPT:
        _KEPT["ours"] = (
            pipeline.Parser(params.task, data),
            list(reading.fields_of(data)),
        )
    parser, fields = _KEPT["ours"]
    field, other = fields[number], fields[number - 1]
    at = tf.constant(number, tf.int64)
    (image, labels), decoding = _timed(reading.decode, field)
    pixels = field | {"image": image, "labels": labels[..., tf.newaxis]}
    (_, targets), plain = _timed(parser.parse_for_training, (pixels, pixels), at)
    if "all" not in _KEPT:
        _KEPT["all"] = pipeline.Parser(
            _params(root).task, _params(root).task.train_data
        )
    _, everything = _timed(_KEPT["all"].parse_for_training, (pixels, other), at)
    return {
        "decode": decoding,
        "crop and targets": plain,
        _ANCHORS: _anchor_seconds(params, targets, seeded=True),
        _AUGMENTATION: everything - plain,
    }


def _anchor_seconds(params, labels, *, seeded: bool) -> float:
    """Returns the seconds to label the anchors of one crop."""
    import tensorflow as tf
    from official.vision.ops import anchor

    from cellclass_tf.maskrcnn.input import anchor_labels

    parser = params.task.train_data.parser
    kind = anchor_labels.SeededAnchorLabeler if seeded else anchor.RpnAnchorLabeler
    if ("labeler", seeded) not in _KEPT:
        labeler = kind(
            parser.rpn_match_threshold,
            parser.rpn_unmatched_threshold,
            parser.rpn_batch_size_per_im,
            parser.rpn_fg_fraction,
        )
        options = {"seed": tf.constant([1, 1], tf.int64)} if seeded else {}
        _KEPT["labeler", seeded] = functools.partial(labeler.label_anchors, **options)
    boxes = tf.boolean_mask(labels["gt_boxes"], labels["gt_classes"] > 0)
    classes = tf.ones([tf.shape(boxes)[0], 1])
    return _timed(_KEPT["labeler", seeded], labels["anchor_boxes"], boxes, classes)[1]


_KEPT: dict = {}


def _params(root: pathlib.Path):
    """Returns the large experiment at the fields' own scale."""
    import tfds_builders  # noqa: F401 - registers cell_types with TFDS.
    from cellclass_tf.maskrcnn import config, data_facts, task  # noqa: F401 - registers the task.

    params = config.cellclass_maskrcnn()
    data_dir = str(root / "tfds")
    facts = data_facts.facts_of_dataset("cell_types/study", data_dir)
    # Neither pipeline caches decoded fields.
    data_facts.apply_facts(params, facts, cache_bytes=0)
    params.task.scale = 1.0
    data = params.task.train_data
    data.tfds_name, data.tfds_data_dir = "cell_types/study", data_dir
    data.global_batch_size = _BATCH
    data.shuffle_buffer_size = _FIELDS
    return params


def _plain(params) -> None:
    """Switches off what Model Garden's parser lacks; crops of one scale and flips remain."""
    data = params.task.train_data
    data.parser.aug_scale_min = data.parser.aug_scale_max = 1.0
    data.composed_share = data.gain = data.gamma = data.noise = data.blur = 0.0


def _batches(root: pathlib.Path, what: str):
    import tensorflow as tf

    from cellclass_tf.maskrcnn.input import pipeline

    params = _params(root)
    if what != "stock":
        if what == "ours":
            _plain(params)
        return pipeline.build_dataset(params.task, params.task.train_data)
    decode, parse = _stock(params)
    return (
        tf.data.TFRecordDataset(str(root / _SHARDS))
        .shuffle(_FIELDS)
        .repeat()
        .map(lambda record: parse(decode(record)), tf.data.AUTOTUNE)
        .batch(_BATCH, drop_remainder=True)
        .prefetch(tf.data.AUTOTUNE)
    )


def _stock(params):
    """Returns Model Garden's decoder and parser with the same settings."""
    from official.vision.dataloaders import maskrcnn_input, tf_example_decoder

    model, parser = params.task.model, params.task.train_data.parser
    decoder = tf_example_decoder.TfExampleDecoder(include_mask=True)
    native = _SIZE_PX / _CROP_PX
    stock = maskrcnn_input.Parser(
        output_size=[_CROP_PX, _CROP_PX],
        min_level=model.min_level,
        max_level=model.max_level,
        num_scales=model.anchor.num_scales,
        aspect_ratios=model.anchor.aspect_ratios,
        anchor_size=model.anchor.anchor_size,
        rpn_match_threshold=parser.rpn_match_threshold,
        rpn_unmatched_threshold=parser.rpn_unmatched_threshold,
        rpn_batch_size_per_im=parser.rpn_batch_size_per_im,
        rpn_fg_fraction=parser.rpn_fg_fraction,
        aug_rand_hflip=True,
        aug_rand_vflip=True,
        aug_scale_min=native,
        aug_scale_max=native,
        max_num_instances=parser.max_num_instances,
        outer_boxes_scale=params.task.model.outer_boxes_scale,
        include_mask=True,
        mask_crop_size=parser.mask_crop_size,
    )
    return decoder.decode, stock.parse_fn(is_training=True)


def _make(root: pathlib.Path, cells: int) -> None:
    import tensorflow as tf

    import tfds_builders
    from cellclass_tf.core.cells import Cells
    from cellclass_tf.core.study import ImageRow, Study
    from cellclass_tf.storage import png
    from experiments.benchmarks import fields

    study = Study.create(root)
    rows = []
    with tf.io.TFRecordWriter(str(root / f"part-{_SHARDS}")) as writer:
        # One more field of each type is held out.
        for number in range(_FIELDS + 2):
            cell_type = study.cell_types[number % 2]
            held_out = number >= _FIELDS
            image, labels = fields.merged_field(
                cell_type,
                number,
                # Some cells do not fit.
                cells=round(1.1 * cells),
                size_px=_SIZE_PX,
                pixel_size_um=_PIXEL_SIZE_UM.get(cells, 0.325),
            )
            found = Cells.from_labels(labels, study.cell_types, cell_type)
            row = ImageRow(
                f"{cell_type}/{number}.png",
                cell_type,
                group=f"{cell_type}{held_out}",
                split="validation" if held_out else "train",
            )
            rows.append(row)
            png.write_png(study.image_path(row), image)
            found.write(study.cells_path(row))
            if not held_out:
                encoded = study.image_path(row).read_bytes()
                writer.write(_tf_example(encoded, found).SerializeToString())
    study.update(rows)
    tfds_builders.dataset(study)
    (root / f"part-{_SHARDS}").rename(root / _SHARDS)


def _tf_example(image_png: bytes, cells):
    import tensorflow as tf

    from cellclass_tf.storage import png

    def floats(values):
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))

    def whole(values):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    def texts(values):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))

    masks = [
        png.encode_png((cells.labels == i + 1).astype(np.uint8), runs=True)
        for i in range(len(cells))
    ]
    height, width = cells.labels.shape
    top, left, bottom, right = cells.boxes_yxyx.T
    feature = {
        "image/encoded": texts([image_png]),
        "image/height": whole([height]),
        "image/width": whole([width]),
        "image/source_id": texts([b"1"]),
        "image/object/bbox/ymin": floats(top / height),
        "image/object/bbox/xmin": floats(left / width),
        "image/object/bbox/ymax": floats(bottom / height),
        "image/object/bbox/xmax": floats(right / width),
        "image/object/class/label": whole(cells.type_ids),
        "image/object/area": floats(cells.areas_px),
        "image/object/is_crowd": whole([0] * len(cells)),
        "image/object/mask": texts(masks),
    }
    return tf.train.Example(features=tf.train.Features(feature=feature))


if __name__ == "__main__":
    app.run(main)
