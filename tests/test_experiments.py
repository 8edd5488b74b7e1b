"""Every experiment of the repository, shrunk, from end to end; and its arms at every scale."""

import dataclasses
import json
import math

import pytest

from research.checks import is_post_training
from research.commands.train import Datasets, prepare, run_study
from research.config import override
from research.data.described import described
from research.data.sets.memory import PROBES
from research.experiment import experiments, load, resolve
from research.models import SEQUENCE_MODELS
from research.models.cnn import mobilenet_v1
from research.train.start import variable_shapes

SHRUNK = {
    "data.name": "digits",
    "data.normalize": "symmetric",  # digits are grey
    "data.train_size": 0,
    "data.batch_size": 8,  # transfer has arms of ten examples
    "data.eval_batch_size": 512,
    "train.steps": 2,
    "train.log_every": 1,
    "train.eval_every": 1,
    "train.tensorboard": False,
}
# A smaller model of the same family, where the arms leave it alone.
SMALL = {"resnet": {"model.depth": 8, "model.width": 4}}
CASES = [(name, scale) for name in experiments() for scale in load(name)[1].scales]
# A scale changes values, never code paths: each experiment runs at its first one.
FIRST = [(name, load(name)[1].scales[0]) for name in experiments()]

# Most of the time goes into compiling: a second arm is trained where arms start from others, and in
# one design of each kind (names alone, two factors, sequences), for the report to compare.
TWO = ("transfer", "normalization", "gradient_clipping", "gating")


def small(config):
    """What to change: the images to digits, sequences to few and short ones of the same kind."""
    if config.model.name not in SEQUENCE_MODELS:
        return SHRUNK | SMALL.get(config.model.name, {})
    text = config.data.name == "toy/text"  # a stream has no examples to count
    probe = config.data.name in PROBES
    return {field: value for field, value in SHRUNK.items() if field.startswith("train.")} | {
        "data.train_size": 0 if text else 64,
        "data.length": 10 if text or probe else 0,
        "data.batch_size": 8,
        "data.eval_batch_size": 512,
        "model.hidden_size": 4,
    }


@pytest.mark.parametrize(("name", "scale"), FIRST)
def test_end_to_end(name, scale, tmp_path, capsys, monkeypatch):
    # Where the arms say how wide a MobileNet is, it is made shorter.
    monkeypatch.setattr(mobilenet_v1, "BLOCKS", mobilenet_v1.BLOCKS[:3])
    module = load(name)[1]
    config, arms = module.get_config(scale), module.arms(scale)
    chosen = list(config.experiment.arms or arms)[: 2 if name in TWO else 1]
    shrunk = small(config)
    left_alone = {field for arm in chosen for field in arms[arm]} | {*config.experiment.tune.fields}
    shrunk = {field: value for field, value in shrunk.items() if field not in left_alone}
    study = resolve(
        name,
        scale,
        overrides=shrunk
        | {"experiment.tune.grid": config.experiment.tune.grid[:1]}
        | {"experiment.tune.seeds": 1, "experiment.baseline": chosen[0]},
        arms=chosen,
        seeds=(0,),
        workdir=str(tmp_path / "w"),
    )
    # Arms that others start from are not asked about: shrunk even in what they set themselves.
    study = dataclasses.replace(
        study, sources={arm: override(c, shrunk, "test") for arm, c in study.sources.items()}
    )
    run_study(study, None, command="test")
    for run in study.runs():
        result = run.result()
        assert result["status"] == "finished" and result["steps"] == (
            0 if is_post_training(run.config) else 2
        )
        assert math.isfinite(result["metrics"]["test/loss"])
        if config.model.name not in SEQUENCE_MODELS:
            assert 0 <= result["metrics"]["test/accuracy"] <= 1
    summary = json.loads((tmp_path / "w" / "report" / "summary.json").read_text())
    assert {panel["metric"] for panel in summary["panels"]} <= set(config.experiment.panels)
    for panel in summary["panels"]:
        assert list(panel["arms"]) == chosen
    assert "Report: " in capsys.readouterr().out


@pytest.mark.parametrize(("name", "scale"), CASES)
def test_every_arm_can_be_built(name, scale, tmp_path):
    """All of them, with its own model, batch size and schedule, but images are digits, and
    sequences those of the first scale, which come with the project."""
    module = load(name)[1]
    arms = list(module.arms(scale))
    study = resolve(name, scale, arms=arms, workdir=str(tmp_path / "w"))
    assert list(study.configs) == arms
    digits = {field: SHRUNK[field] for field in ("data.name", "data.normalize")}
    digits |= {"data.train_size": 0}

    def on_digits(config):
        if config.model.name in SEQUENCE_MODELS:
            if scale != module.scales[0]:
                at_hand = module.get_config(module.scales[0]).data.name
                config = override(config, {"data.name": at_hand}, "")
            few = small(config)["data.train_size"] and max(64, config.data.batch_size)
            return override(config, {"data.train_size": few}, "")
        return override(config, digits | {"data.image_size": max(32, config.data.image_size)}, "")

    at_hand = {}
    for arm, config in study.configs.items():
        if (dataset := described(config)) is not None:  # too large to be at hand
            assert variable_shapes(config, dataset)["params"]
        else:
            at_hand[arm] = on_digits(config)
    prepare(dataclasses.replace(study, configs=at_hand), Datasets(None))
    assert study.title.endswith("?")


@pytest.mark.parametrize("name", experiments())
def test_the_page_says_what_it_must(name):
    doc = load(name)[1].__doc__
    for word in ("?", f"python launch.py --experiment={name}", "Cost:", "Expected:"):
        assert word in doc
