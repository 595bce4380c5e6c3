"""Tests of the task: a training step as an accelerator takes it."""

import numpy as np
import tensorflow as tf
from official.modeling import optimization

from cellclass_tf.maskrcnn import config, data_facts
from cellclass_tf.maskrcnn.task import CellMaskRCNNTask


def test_a_training_step_compiles_under_xla_with_static_shapes(prepared):
    params = config.cellclass_maskrcnn_small()
    task, data = params.task, params.task.train_data
    data.tfds_name, data.tfds_data_dir = "cell_types/study", str(prepared / "tfds")
    data.global_batch_size = 2
    found = data_facts.facts_of_dataset(data.tfds_name, data.tfds_data_dir)
    data_facts.apply_facts(params, found)
    # As small as it goes: what is compiled is of the same kinds.
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
    assert np.isfinite(losses).all() and int(optimizer.iterations) == 3
    assert not np.array_equal(before, model.trainable_variables[0].numpy())
    assert the_task.first_bad_batch() is None
