"""Experiments: complete configurations of the Mask R-CNN, and what data decides."""

from __future__ import annotations

import dataclasses
import math
import pathlib

import numpy as np
from official.core import config_definitions as cfg
from official.core import exp_factory
from official.modeling import optimization
from official.vision.configs import backbones, common, decoders, maskrcnn

EXPERIMENTS = ("cellclass_maskrcnn", "cellclass_maskrcnn_small")


@dataclasses.dataclass
class DataConfig(maskrcnn.DataConfig):
    """Crops of TFDS examples `cell_types`.

    Attributes:
      min_visible_share: a cell that a crop cuts to less than this share of its area is
        no target.
      composed_share: into this share of the crops, cells of another field are moved.
      cache: keep decoded fields in memory; set from the dataset's size.
      gain: brightness of each channel is multiplied by exp(±gain), at random.
      gamma: and raised to the power exp(±gamma).
      noise: standard deviation of added noise, as a share of full brightness.
      blur: largest standard deviation of a Gaussian blur, in the network's pixels.
    """

    min_visible_share: float = 0.3
    composed_share: float = 0.6
    cache: bool = False
    gain: float = 0.3
    gamma: float = 0.3
    noise: float = 0.01
    blur: float = 0.5
    seed: int = 0


@dataclasses.dataclass
class CellMaskRCNNTask(maskrcnn.MaskRCNNTask):
    """Mask R-CNN of cells; the last five are set from the dataset.

    Attributes:
      model_diameter_px: how large a median cell shall appear to the network.
      export_size_px: width of the tiles that the exported model takes.
      type_names: names of the cell types, in class order.
      scale: pixels of the network's input per pixel of the merged image.
      cell_diameter_px: median diameter of a cell in the merged images.
      pixel_size_um: of the merged images; 0 if unknown.
      fingerprint: of the dataset.
    """

    train_data: DataConfig = dataclasses.field(
        default_factory=lambda: DataConfig(is_training=True)
    )
    validation_data: DataConfig = dataclasses.field(
        default_factory=lambda: DataConfig(is_training=False, drop_remainder=False)
    )
    model_diameter_px: float = 24.0
    export_size_px: int = 256
    type_names: list[str] = dataclasses.field(default_factory=list)
    scale: float = 0.0
    cell_diameter_px: float = 0.0
    pixel_size_um: float = 0.0
    fingerprint: str = ""


@exp_factory.register_config_factory("cellclass_maskrcnn_small")
def cellclass_maskrcnn_small() -> cfg.ExperimentConfig:
    """A network for a processor without an accelerator, and for small studies."""
    filters = 48
    model = maskrcnn.MaskRCNN(
        input_size=[128, 128, 3],
        min_level=2,
        max_level=4,
        anchor=maskrcnn.Anchor(aspect_ratios=[0.6, 1.0, 1.7]),
        backbone=backbones.Backbone(
            type="resnet",
            resnet=backbones.ResNet(model_id=18, depth_multiplier=0.5),
        ),
        decoder=decoders.Decoder(type="fpn", fpn=decoders.FPN(num_filters=filters)),
        rpn_head=maskrcnn.RPNHead(num_convs=1, num_filters=filters),
        detection_head=maskrcnn.DetectionHead(
            num_convs=0, num_filters=filters, fc_dims=256, class_agnostic_bbox_pred=True
        ),
        roi_generator=maskrcnn.ROIGenerator(pre_nms_top_k=300, num_proposals=100),
        roi_sampler=maskrcnn.ROISampler(num_sampled_rois=32, foreground_fraction=0.5),
        mask_head=maskrcnn.MaskHead(
            num_convs=2, num_filters=filters, class_agnostic=True
        ),
        mask_sampler=maskrcnn.MaskSampler(num_sampled_masks=12),
        norm_activation=common.NormActivation(
            norm_momentum=0.95, norm_epsilon=1e-3, use_sync_bn=False
        ),
    )
    return _experiment(
        CellMaskRCNNTask(model=model), batch_size=8, steps=700, rate=2e-3
    )


@exp_factory.register_config_factory("cellclass_maskrcnn")
def cellclass_maskrcnn() -> cfg.ExperimentConfig:
    """ResNet-50 FPN on 512 px crops at native scale, for GPUs and TPUs."""
    model = maskrcnn.MaskRCNN(
        input_size=[512, 512, 3],
        min_level=2,
        max_level=5,
        backbone=backbones.Backbone(
            type="resnet", resnet=backbones.ResNet(model_id=50)
        ),
        detection_head=maskrcnn.DetectionHead(class_agnostic_bbox_pred=True),
        mask_head=maskrcnn.MaskHead(class_agnostic=True),
        norm_activation=common.NormActivation(
            norm_momentum=0.99, norm_epsilon=1e-3, use_sync_bn=True
        ),
    )
    task = CellMaskRCNNTask(model=model, model_diameter_px=48.0, export_size_px=512)
    return _experiment(task, batch_size=16, steps=20_000, rate=1e-3)


def _experiment(
    task: CellMaskRCNNTask, *, batch_size: int, steps: int, rate: float
) -> cfg.ExperimentConfig:
    task.use_coco_metrics = False
    task.use_approx_instance_metrics = True
    for data in (task.train_data, task.validation_data):
        data.global_batch_size = batch_size
        data.dtype = "float32"
        data.parser.mask_crop_size = 56
        data.parser.rpn_batch_size_per_im = 128
    task.train_data.parser.aug_scale_min = 0.8
    task.train_data.parser.aug_scale_max = 1.25
    task.train_data.tfds_split = "train"
    task.validation_data.tfds_split = "validation"
    return cfg.ExperimentConfig(
        task=task,
        runtime=cfg.RuntimeConfig(mixed_precision_dtype=_mixed_precision()),
        trainer=cfg.TrainerConfig(
            train_steps=steps,
            steps_per_loop=20,
            summary_interval=20,
            checkpoint_interval=100,
            validation_interval=steps,
            validation_steps=4,
            max_to_keep=2,
            optimizer_config=_adam(steps, rate),
        ),
    )


def _adam(steps: int, rate: float) -> optimization.OptimizationConfig:
    return optimization.OptimizationConfig(
        {
            "optimizer": {"type": "adam", "adam": {"global_clipnorm": 5.0}},
            "learning_rate": {
                "type": "cosine",
                "cosine": {"initial_learning_rate": rate, "decay_steps": steps},
            },
            "warmup": {
                "type": "linear",
                "linear": {"warmup_steps": min(50, steps // 10)},
            },
        }
    )


def set_steps(params: cfg.ExperimentConfig, steps: int) -> None:
    """Sets the number of training steps, and the learning rate's course with it."""
    rate = params.trainer.optimizer_config.learning_rate.cosine.initial_learning_rate
    params.trainer.train_steps = steps
    params.trainer.validation_interval = steps
    params.trainer.optimizer_config = _adam(steps, rate)


def _mixed_precision() -> str | None:
    """bfloat16 where the processor multiplies it in hardware (AMX), else None."""
    try:
        flags = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return None
    return "bfloat16" if "amx_bf16" in flags else None


@dataclasses.dataclass(frozen=True)
class DataFacts:
    """What a dataset says of its cells.

    Attributes:
      type_names: in class order.
      cell_diameter_px: median over the training cells of the diameter of a disc of the
        same area.
      most_cells: the largest number of cells in one field.
      densest: the largest number of cells per pixel of a field.
      pixel_size_um: median of the fields' pixel sizes; 0 if unknown.
      decoded_bytes: size of all training fields in memory.
      fields: number of training fields.
      validation_fields: number of validation fields.
      fingerprint: of the dataset.
    """

    type_names: tuple[str, ...]
    cell_diameter_px: float
    most_cells: int
    densest: float
    pixel_size_um: float
    decoded_bytes: int
    fields: int
    validation_fields: int
    fingerprint: str


def apply_facts(
    params: cfg.ExperimentConfig, facts: DataFacts, cache_bytes: int = 2 << 30
) -> None:
    """Sets what follows from the data: types, scale, room for all cells, caching."""
    task, model = params.task, params.task.model
    task.type_names = list(facts.type_names)
    task.cell_diameter_px = round(facts.cell_diameter_px, 2)
    task.pixel_size_um = round(facts.pixel_size_um, 6)
    task.scale = round(task.model_diameter_px / facts.cell_diameter_px, 4)
    task.fingerprint = facts.fingerprint
    model.num_classes = len(facts.type_names) + 1
    # Three anchors' levels: half a median cell, one, and two, for 2^min_level pixels.
    model.anchor.anchor_size = round(
        task.model_diameter_px / 2 ** (model.min_level + 0.5), 3
    )
    # A composed crop can hold the cells of two.
    crop = 2 * _room(facts, model.input_size[0] / task.scale * _largest_crop(task))
    tile = _room(facts, task.export_size_px / task.scale)
    for data in (task.train_data, task.validation_data):
        data.parser.max_num_instances = crop
        data.cache = facts.decoded_bytes <= cache_bytes
        # The buffer holds decoded fields too.
        fields = facts.fields * cache_bytes // max(facts.decoded_bytes, 1)
        data.shuffle_buffer_size = max(2, min(facts.fields, fields, 1000))
    model.detection_generator.max_num_detections = max(tile, 100)
    model.roi_generator.test_num_proposals = max(2 * tile, 200)
    model.roi_generator.test_pre_nms_top_k = max(4 * tile, 1000)
    params.trainer.validation_steps = max(
        1, math.ceil(facts.validation_fields / task.validation_data.global_batch_size)
    )


def _largest_crop(task: CellMaskRCNNTask) -> float:
    return 1 / task.train_data.parser.aug_scale_min


def _room(facts: DataFacts, width_px: float) -> int:
    """Most cells that a square of the field can hold, with half as many to spare."""
    most = min(facts.most_cells, math.ceil(facts.densest * width_px**2 * 1.5) + 10)
    return int(math.ceil(most * 1.5 / 8) * 8)


def facts_of_dataset(name: str, data_dir: str | None) -> DataFacts:
    """Reads a prepared `cell_types` dataset once, without decoding its pictures.

    Raises:
      InputError: if it has no training split or no cells, or a record is broken.
    """
    import tensorflow_datasets as tfds

    from cellclass_tf.files import InputError

    builder = tfds.builder(name, data_dir=data_dir)
    skip = {"image": tfds.decode.SkipDecoding(), "labels": tfds.decode.SkipDecoding()}
    if "train" not in builder.info.splits:
        raise InputError(
            f"{name} in {data_dir} has no split 'train' (it has "
            f"{sorted(builder.info.splits)}). Run `cellclass dataset` on a study with "
            "annotated pure cultures."
        )
    diameters, counts, densities, sizes, decoded = [], [], [], [], 0
    for split in ("train", "validation"):
        if split not in builder.info.splits:
            continue
        for example in _records(builder, split, skip):
            height, width = _png_size(example["image"])
            areas = example["cells"]["area_px"]
            counts.append(len(areas))
            densities.append(len(areas) / (height * width))
            if split == "train":
                diameters.append(2 * np.sqrt(areas / np.pi))
                sizes.append(float(example["pixel_size_um"]))
                decoded += height * width * 5
    diameters = np.concatenate(diameters)
    if not diameters.size:
        raise InputError(f"{name} in {data_dir}: the training split holds no cell.")
    splits = builder.info.splits
    return DataFacts(
        type_names=_type_names(builder),
        cell_diameter_px=float(np.median(diameters)),
        most_cells=max(counts),
        densest=max(densities),
        # With some unknown, no size would be true of all.
        pixel_size_um=float(np.median(sizes)) if all(sizes) else 0.0,
        decoded_bytes=decoded,
        fields=splits["train"].num_examples,
        validation_fields=(
            splits["validation"].num_examples if "validation" in splits else 0
        ),
        fingerprint=(builder.info.metadata or {}).get("fingerprint", ""),
    )


def _records(builder, split: str, decoders):
    import tensorflow as tf
    import tensorflow_datasets as tfds

    from cellclass_tf.files import InputError

    try:
        yield from tfds.as_numpy(builder.as_dataset(split=split, decoders=decoders))
    except tf.errors.OpError as error:
        raise InputError(
            f"{builder.data_path}: a record of the split {split} cannot be read "
            f"({type(error).__name__}). `cellclass check --dataset={builder.data_path}` "
            "says which; delete the folder and run `cellclass dataset` again."
        ) from error


def _type_names(builder) -> tuple[str, ...]:
    """The names with which the dataset was prepared, whatever the study says now."""
    import tensorflow_datasets as tfds

    prepared = tfds.builder_from_directory(builder.data_path)
    return tuple(prepared.info.features["cells"]["type"].names)


def _png_size(png: bytes) -> tuple[int, int]:
    return int.from_bytes(png[20:24], "big"), int.from_bytes(png[16:20], "big")
