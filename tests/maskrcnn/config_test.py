"""Tests of cellclass_tf.maskrcnn.config."""

from cellclass_tf.maskrcnn import config


def test_the_learning_rate_ends_with_the_steps():
    params = config.cellclass_maskrcnn_small()
    config.set_steps(params, 40)
    assert params.trainer.train_steps == 40
    assert params.trainer.optimizer_config.learning_rate.cosine.decay_steps == 40
