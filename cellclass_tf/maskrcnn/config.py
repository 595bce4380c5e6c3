"""Experiments: complete configurations of the Mask R-CNN."""

from __future__ import annotations

import dataclasses

from official.core import config_definitions as cfg
from official.core import exp_factory
from official.modeling import optimization

from cellclass_tf.maskrcnn.input import augmentation
from cellclass_tf.maskrcnn.model_garden import (
    backbone_configs,
    common_configs,
    configs,
    decoder_configs,
)

BEST_FOLDER = "best"
# Lower limits for a tile of any size.
LEAST_DETECTIONS = 100
LEAST_PROPOSALS = 500
SMALL = "cellclass_maskrcnn_small"
EXPERIMENTS = ("cellclass_maskrcnn", SMALL)
# The starting weights shipped with the package; see `weights.load`.
SIMULATED = "simulated"
# What the small experiment starts from unless --init says otherwise; "" for random weights.
SMALL_START = SIMULATED


@dataclasses.dataclass
class DataConfig(configs.DataConfig):
    """Parameters of the training crops, which are cut from TFDS examples of `cell_types`.

    Attributes:
      min_visible_share: smallest visible fraction of a cell's area; a cell that a crop
        cuts to less is not a target.
      composed_share: fraction of crops into which cells of another field are pasted.
      untyped_split: split of fields with cells of unknown type, of which only outlines
        are learned; '' for none. Set from the dataset.
      untyped_share: fraction of the crops that are taken from `untyped_split`.
      cache: whether decoded fields are kept in memory; set from the dataset's size.
      gain: each channel is multiplied by a random factor up to exp(±gain).
      gamma: each channel is raised to a random power up to exp(±gamma).
      noise: standard deviation of added noise, as a fraction of full brightness.
      blur: largest standard deviation of a Gaussian blur, in the network's pixels.
      seed: random seed of crops and augmentation.
    """

    min_visible_share: float = augmentation.MIN_VISIBLE_SHARE
    composed_share: float = 0.6
    untyped_split: str = ""
    untyped_share: float = 0.25
    cache: bool = False
    gain: float = 0.3
    gamma: float = 0.3
    noise: float = 0.01
    blur: float = 0.5
    seed: int = 0


@dataclasses.dataclass
class CellMaskRCNNTask(configs.MaskRCNNTask):
    """Parameters of the Mask R-CNN; the last six attributes are set from the dataset.

    Attributes:
      init_checkpoint: weights that a new run starts from, see `weights.load`; '' for
        random weights.
      heads_steps: number of steps in which the backbone keeps its starting weights.
      balance_types: whether types with few cells get a larger weight in the loss.
      namer_steps: training steps of the namer, a network that classifies cells by small
        crops around their nuclei; 0 trains no namer.
      namer_init: weights that the namer of a new run starts from, see
        `cell_namer.weights.load`; '' for random weights.
      views: number of views (rotated, mirrored, enlarged) of a field that the exported
        model predicts and merges.
      patience: number of evaluations without a better AP after which training stops; 0
        disables early stopping.
      grayscale: whether the network sees only the cytoplasm, for cells without stained
        nuclei.
      keras_strides: whether the strides of a ResNet-50 are placed as in Keras
        Applications.
      model_diameter_px: diameter of a median cell in the network's input.
      export_size_px: width of the tiles that the exported model takes. The maximum numbers
        of detections and proposals are those for such a tile.
      type_names: names of the cell types, in class order.
      scale: pixels of the network's input per pixel of the merged image.
      cell_diameter_px: median diameter of a cell in the merged images.
      pixel_size_um: pixel size of the merged images; 0 if unknown.
      fingerprint: fingerprint of the dataset.
      labelled_images: `model_metadata.short_sha256` of the images with known types that
        were used for this training or for that of its starting weights.
    """

    train_data: DataConfig = dataclasses.field(
        default_factory=lambda: DataConfig(is_training=True)
    )
    validation_data: DataConfig = dataclasses.field(
        default_factory=lambda: DataConfig(is_training=False, drop_remainder=False)
    )
    heads_steps: int = 0
    balance_types: bool = True
    namer_steps: int = 600
    namer_init: str = SIMULATED
    views: int = 1
    patience: int = 0
    grayscale: bool = False
    keras_strides: bool = False
    model_diameter_px: float = 24.0
    export_size_px: int = 512
    type_names: list[str] = dataclasses.field(default_factory=list)
    scale: float = 0.0
    cell_diameter_px: float = 0.0
    pixel_size_um: float = 0.0
    fingerprint: str = ""
    labelled_images: list[str] = dataclasses.field(default_factory=list)


@exp_factory.register_config_factory(SMALL)
def cellclass_maskrcnn_small() -> cfg.ExperimentConfig:
    """Returns the experiment for machines without a GPU and for small studies."""
    filters = 48
    model = configs.MaskRCNN(
        input_size=[128, 128, 3],
        min_level=2,
        max_level=4,
        outer_boxes_scale=1.15,
        anchor=configs.Anchor(aspect_ratios=[0.6, 1.0, 1.7]),
        backbone=backbone_configs.Backbone(
            type="resnet",
            resnet=backbone_configs.ResNet(model_id=18, depth_multiplier=0.5),
        ),
        decoder=decoder_configs.Decoder(
            type="fpn", fpn=decoder_configs.FPN(num_filters=filters)
        ),
        rpn_head=configs.RPNHead(num_convs=1, num_filters=filters),
        detection_head=configs.DetectionHead(
            num_convs=0, num_filters=filters, fc_dims=256, class_agnostic_bbox_pred=True
        ),
        roi_generator=configs.ROIGenerator(
            pre_nms_top_k=300, num_proposals=100, test_pre_nms_score_threshold=0.05
        ),
        roi_sampler=configs.ROISampler(num_sampled_rois=64, foreground_fraction=0.5),
        mask_head=configs.MaskHead(
            num_convs=2, num_filters=filters, class_agnostic=True
        ),
        mask_sampler=configs.MaskSampler(num_sampled_masks=8),
        norm_activation=common_configs.NormActivation(
            norm_momentum=0.95, norm_epsilon=1e-3, use_sync_bn=False
        ),
    )
    task = CellMaskRCNNTask(model=model, init_checkpoint=SMALL_START)
    return _experiment(task, batch_size=8, steps=600, rate=7e-3)


@exp_factory.register_config_factory("cellclass_maskrcnn")
def cellclass_maskrcnn() -> cfg.ExperimentConfig:
    """Returns the experiment for GPUs and TPUs: ResNet-50 FPN on crops of 512 px."""
    model = configs.MaskRCNN(
        input_size=[512, 512, 3],
        min_level=2,
        max_level=5,
        outer_boxes_scale=1.15,
        backbone=backbone_configs.Backbone(
            type="resnet", resnet=backbone_configs.ResNet(model_id=50)
        ),
        detection_head=configs.DetectionHead(class_agnostic_bbox_pred=True),
        mask_head=configs.MaskHead(class_agnostic=True),
        norm_activation=common_configs.NormActivation(
            norm_momentum=0.99, norm_epsilon=1e-3, use_sync_bn=True
        ),
    )
    task = CellMaskRCNNTask(model=model, model_diameter_px=48.0)
    return _experiment(task, batch_size=16, steps=20_000, rate=1e-3)


def _experiment(
    task: CellMaskRCNNTask, *, batch_size: int, steps: int, rate: float
) -> cfg.ExperimentConfig:
    # The module `validation` scores fields instead.
    task.use_coco_metrics = False
    task.use_approx_instance_metrics = False
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
        runtime=cfg.RuntimeConfig(mixed_precision_dtype="float32"),
        trainer=cfg.TrainerConfig(
            train_steps=steps,
            steps_per_loop=20,
            summary_interval=20,
            checkpoint_interval=100,
            # All fields.
            validation_steps=-1,
            max_to_keep=2,
            best_checkpoint_export_subdir=BEST_FOLDER,
            best_checkpoint_eval_metric="AP",
            optimizer_config=_adam(steps, rate, heads_steps=0),
        ),
    )


def _adam(steps: int, rate: float, heads_steps: int) -> optimization.OptimizationConfig:
    if heads_steps:
        course = {
            "type": "stepwise",
            "stepwise": {"boundaries": [heads_steps], "values": [rate, rate / 10]},
        }
    else:
        course = {
            "type": "cosine",
            "cosine": {"initial_learning_rate": rate, "decay_steps": steps},
        }
    return optimization.OptimizationConfig(
        {
            "optimizer": {"type": "adam", "adam": {"global_clipnorm": 5.0}},
            "learning_rate": course,
            "warmup": {
                "type": "linear",
                "linear": {"warmup_steps": min(50, steps // 10)},
            },
        }
    )


def set_steps(params: cfg.ExperimentConfig, steps: int) -> None:
    """Sets the number of training steps and the parameters that depend on it.

    The learning rate decays to zero over the steps. With `heads_steps`, it is constant for
    that many steps and a tenth of that afterwards. There are five evaluations.
    """
    rate = params.trainer.optimizer_config.learning_rate.cosine.initial_learning_rate
    loop = params.trainer.steps_per_loop
    params.trainer.train_steps = steps
    params.trainer.validation_interval = max(loop, -(-steps // 5 // loop) * loop)
    params.trainer.optimizer_config = _adam(steps, rate, params.task.heads_steps)
