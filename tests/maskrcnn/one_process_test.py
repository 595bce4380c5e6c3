"""Tests that all stages work one after the other in one process, in two precisions."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import cellclass_tf as cc
from cellclass_tf.core.model_metadata import METADATA_FILE, ModelMetadata
from cellclass_tf.labels import matching
from cellclass_tf.maskrcnn import export, network, runs, training
from cellclass_tf.maskrcnn.input import network_input
from tests import process_state_of

SMALL = "cellclass_maskrcnn_small"
TINY = (
    "task.train_data.global_batch_size=2,task.export_size_px=64,"
    "trainer.steps_per_loop=10,trainer.summary_interval=10,"
    "task.model.input_size=[64,64,3],task.model.backbone.resnet.model_id=10,"
    "task.model.max_level=3,task.model.mask_head.num_convs=1,"
    "task.train_data.composed_share=0,task.namer_steps=0,task.views=1"
)


def predictor_of(checkpoint, model_dir, precision):
    """The trained network, without the changes of `serving`."""
    metadata = ModelMetadata.read(model_dir / METADATA_FILE)
    task = runs.load_params(SMALL, checkpoint).task
    size = task.export_size_px
    before = tf_keras.mixed_precision.global_policy()
    tf_keras.mixed_precision.set_global_policy(precision)
    try:
        model = network.build_model(task, size)
        runs.restore(model, runs.checkpoint_in(checkpoint))
    finally:
        tf_keras.mixed_precision.set_global_policy(before)
    anchors = network_input.build_anchors(task.model, size)

    def serve(images):
        count = len(images)
        outputs = model(
            network_input.normalise(images),
            image_shape=tf.fill([count, 2], float(size)),
            anchor_boxes={
                k: tf.tile(v[None], [count, 1, 1, 1]) for k, v in anchors.items()
            },
            training=False,
        )
        return {name: outputs[name] for name in network.OUTPUTS}

    return cc.Predictor(serve, metadata, "")


def share_found_again(cells, others, iou):
    """Returns the fraction of cells with a match of this IoU and the same type."""
    pairs = matching.match_cells(cells.labels, others.labels, iou).pairs - 1
    same = [cells.type_ids[i] == others.type_ids[j] for i, j in pairs]
    return sum(same) / max(len(cells), 1)


@pytest.fixture(scope="module")
def taught(prepared, tmp_path_factory):
    """A network that finds some cells, from which the runs below start."""
    folder = tmp_path_factory.mktemp("taught")
    options = {"mode": "train", "steps": 80, "precision": "float32"}
    return training.train(
        SMALL, folder, study=prepared, params_override=TINY, **options
    )


# Differences of float16 are tested in task_test and network_test; a round takes a minute.
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_stages_follow_each_other_in_one_process(
    taught, prepared, tmp_path, precision, capsys
):
    study = cc.Study.open(prepared)
    (row,) = (row for row in study.rows() if row.cell_type == "mixed")
    # One tile, so that the network as it was trained, which is slow, is called once.
    image = np.ascontiguousarray(study.read_image(row)[30:170, 30:170])
    override = (
        f"{TINY},runtime.mixed_precision_dtype={precision},"
        "trainer.optimizer_config.learning_rate.cosine.initial_learning_rate=1e-5"
    )
    policy = "float32" if precision == "float32" else f"mixed_{precision}"
    # The second precision follows the first one in the same process.
    for number in (1,) if precision == "float32" else (2,):
        before = process_state_of.process_state()
        run, model = tmp_path / f"training{number}", tmp_path / f"model{number}"
        options = {"mode": "train", "steps": 5, "seed": number, "init": taught}
        training.train(SMALL, run, study=prepared, params_override=override, **options)
        export.export(SMALL, run, model)
        cc.predict(model, prepared, tmp_path / f"out{number}", cell_type="mixed")
        assert process_state_of.changed(before, process_state_of.process_state()) == {}
        cells = cc.Predictor.load(model).predict(image)
        assert len(cells) >= 2
        # In the precision of training, a cell near the threshold may be lost or found.
        for dtype, iou, least in (("float32", 0.95, 1.0), (policy, 0.5, 0.75))[:number]:
            trained = predictor_of(run, model, dtype).predict(image)
            assert share_found_again(cells, trained, iou) >= least
            assert share_found_again(trained, cells, iou) >= least
    # Only the commands that answer a person print something.
    assert capsys.readouterr().out == ""
