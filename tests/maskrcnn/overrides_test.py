"""Tests of cellclass_tf.maskrcnn.overrides."""

import pytest
from official.core import exp_factory

from cellclass_tf.errors import InputError
from cellclass_tf.maskrcnn import config, overrides


@pytest.fixture
def params():
    return exp_factory.get_exp_config(config.SMALL)


def test_overrides_are_read_from_text_yaml_and_files(params, tmp_path):
    overrides.apply(params, "task.model_diameter_px=25.5,trainer.train_steps=7", "flag")
    assert params.task.model_diameter_px == 25.5
    assert params.trainer.train_steps == 7
    overrides.apply(params, "{task: {namer_steps: 3}, runtime: {tpu: local}}", "flag")
    assert params.task.namer_steps == 3
    assert params.runtime.tpu == "local"
    path = tmp_path / "a.yaml"
    path.write_text("trainer:\n  optimizer_config:\n    optimizer:\n      type: sgd\n")
    overrides.apply(params, str(path), "a.yaml")
    assert params.trainer.optimizer_config.optimizer.type == "sgd"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "task.model_diameterpx=3",
            "unknown parameter task.model_diameterpx. Did you mean task.model_diameter_px",
        ),
        ("taskk.a=1", "unknown parameter taskk. Did you mean task"),
        ("zzz=1", "unknown parameter zzz. Known parameters: task, trainer, runtime"),
        ("trainer.train_steps=abc", "a number for trainer.train_steps, got 'abc'"),
        ("task=3", "several values for task, got 3"),
        ("trainer.train_steps.a=3", "a single value for trainer.train_steps"),
        ("task: {namer_steps: [", "expected overrides such as"),
        ("nothing.yaml", "or a YAML file; got 'nothing.yaml'"),
        ("task.use_wandb=3,", "expected overrides such as|unknown parameter"),
    ],
)
def test_an_invalid_override_gives_a_message_of_one_line(params, text, words):
    with pytest.raises(InputError, match=words) as error:
        overrides.apply(params, text, "params_override")
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("params_override: ")


def test_another_backbone_can_be_chosen_together_with_its_parameters(params):
    text = "task.model.backbone.type=efficientnet,task.model.backbone.efficientnet.model_id=b1"
    overrides.apply(params, text, "flag")
    assert params.task.model.backbone.get().model_id == "b1"
    with pytest.raises(InputError, match="Did you mean task.model.backbone.mobilenet"):
        overrides.apply(params, "task.model.backbone.mobilnet.model_id=a", "flag")
    with pytest.raises(InputError, match="unknown parameter .*efficientnet.model_idd"):
        overrides.apply(params, "task.model.backbone.efficientnet.model_idd=a", "flag")
