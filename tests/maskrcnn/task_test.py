"""Tests of cellclass_tf.maskrcnn.task, including a training step compiled by XLA."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from official.modeling import optimization

from cellclass_tf.maskrcnn import config, data_facts
from cellclass_tf.maskrcnn.task import CellMaskRCNNTask, untyped_loss


def test_a_training_step_compiles_under_xla_with_static_shapes(prepared):
    params = config.cellclass_maskrcnn_small()
    task, data = params.task, params.task.train_data
    data.tfds_name, data.tfds_data_dir = "cell_types/study", str(prepared / "tfds")
    data.global_batch_size = 2
    found = data_facts.facts_of_dataset(data.tfds_name, data.tfds_data_dir)
    data_facts.apply_facts(params, found)
    # The smallest network with the same kinds of layers, to compile quickly.
    task.model.input_size, task.model.max_level = [64, 64, 3], 3
    task.model.backbone.resnet.model_id = 10
    task.model.mask_head.num_convs = 1
    the_task = CellMaskRCNNTask(task)
    model = the_task.build_model()
    factory = optimization.OptimizerFactory(params.trainer.optimizer_config)
    optimizer = factory.build_optimizer(factory.build_learning_rate())
    batch = next(iter(the_task.build_inputs(data)))

    @tf.function(jit_compile=True)
    def step(images, labels):
        return the_task.train_step((images, labels), model, optimizer)

    before = model.trainable_variables[0].numpy()
    losses = [float(step(*batch)["loss"]) for _ in range(3)]
    assert np.isfinite(losses).all()
    assert int(optimizer.iterations) == 3
    assert not np.array_equal(before, model.trainable_variables[0].numpy())
    assert the_task.first_bad_batch() is None


def losses_of(task, classes):
    outputs = {
        "class_outputs": tf.constant([[[1.0, 0.0, 2.0], [3.0, 1.0, 0.5]]]),
        "class_targets": tf.constant([classes]),
        "box_outputs": tf.zeros([1, 2, 4]),
        "box_targets": tf.ones([1, 2, 4]),
    }

    @tf.function
    def losses():
        return CellMaskRCNNTask(task)._build_frcnn_losses(outputs, {})

    return tf.distribute.get_strategy().run(losses), outputs["class_outputs"]


def test_a_cell_of_unknown_type_increases_the_probability_of_any_cell(task):
    task.train_data.untyped_split = "untyped"
    task.losses.class_weights = [1.0, 0.5, 2.0]
    (classes, boxes), logits = losses_of(task, [3, 0])
    odds = np.exp(logits.numpy()[0])
    cell, background = odds[0, 1:].sum() / odds[0].sum(), odds[1, 0] / odds[1].sum()
    assert float(classes) == pytest.approx(-(np.log(cell) + np.log(background)) / 2)
    # Its box is learned like any other box.
    assert float(boxes) == pytest.approx(float(losses_of(task, [1, 0])[0][1]))


def test_a_cell_of_unknown_type_does_not_change_the_ratios_of_types():
    logits = tf.constant([[0.3, 1.2, -0.5]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = untyped_loss(logits)
    change = tape.gradient(loss, logits).numpy()[0]
    # The probabilities of both types increase in proportion.
    given = tf.nn.softmax(logits[:, 1:]).numpy()[0]
    np.testing.assert_allclose(change[1:] / change[1:].sum(), given, rtol=1e-5)
    assert change[0] > 0 > change[1]


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_training_in_float16_scales_its_loss_and_skips_a_step_that_overflows(precision):
    params = config.cellclass_maskrcnn_small()
    params.runtime.mixed_precision_dtype = precision
    the_task = CellMaskRCNNTask(params.task)
    optimizer = the_task.create_optimizer(
        params.trainer.optimizer_config, params.runtime
    )
    scales = isinstance(optimizer, tf_keras.mixed_precision.LossScaleOptimizer)
    assert scales == (precision == "float16")
    if scales:
        variable, before = tf.Variable([1.0]), float(optimizer.loss_scale)
        optimizer.apply_gradients([(tf.constant([np.inf]), variable)])
        assert optimizer.dynamic
        assert float(optimizer.loss_scale) < before
        assert variable.numpy() == [1.0]
