"""Plans for machines that are not here: what they say, and what they refuse."""

import json

import jax
import pytest

from research.commands.plan import plan
from research.config import UserError
from research.data.described import described
from research.report.plan import spell
from research.study import Study

MLP = {"model.name": "mlp", "model.hidden": (256,), "data.batch_size": 64}
TEXT = {
    "model.name": "recurrent",
    "model.hidden": None,
    "model.hidden_size": 128,
    "data.name": "lm1b",
    "data.vocabulary_size": 512,
    "data.length": 20,
    "data.batch_size": 32,
}


@pytest.fixture
def study(tmp_path, tiny):
    def make(**arms):
        configs = {arm: tiny(changes) for arm, changes in arms.items()}
        return Study("question", "laptop", "?", configs, arms, (0,), tmp_path)

    return make


def planned(study, topology):
    plan(study, topology, None)
    return json.loads((study.workdir / "plan.json").read_text())


def value(report, arm, name):
    return report["arms"][arm]["figures"][name]["value"]


def test_a_plan_for_chips(tpus, study, capsys):
    mesh = {"train.mesh": "seed:1,data:-1,fsdp:2"}
    report = planned(
        study(whole=MLP, again=MLP | {"optimizer.learning_rate": 1.0}, split=MLP | mesh), "v5e:2x2"
    )
    assert report["chips"] == 4 and list(report["arms"]) == ["whole", "split"]
    assert report["arms"]["whole"]["shared_by"] == ["whole", "again"]  # one program once
    # 64 images of 8×8 through 64·256 + 256·10 weights on 4 chips: forward and gradient of the
    # weights, and of the activations between.
    macs = 16 * (64 * 256 + 256 * 10)
    assert value(report, "whole", "operations") == 2 * (2 * macs + 16 * 256 * 10)
    parameters = 4 * (64 * 256 + 256 + 256 * 10 + 10)
    assert value(report, "whole", "parameters") == parameters
    assert value(report, "split", "parameters") < 0.6 * parameters
    kinds = {row["kind"] for row in report["arms"]["split"]["collectives"]}
    axes = {tuple(row["axes"]) for row in report["arms"]["split"]["collectives"]}
    assert "all-gather" in kinds and ("fsdp",) in axes
    assert [row["axes"] for row in report["arms"]["whole"]["collectives"]] == [["data"]]
    gradients = report["arms"]["whole"]["collectives"][0]["bytes"]
    assert parameters <= gradients < 1.1 * parameters
    assert [p["chips"] for p in report["arms"]["whole"]["scaling"]["weak"]] == [1, 2, 4]
    marks = {f["how"] for f in report["arms"]["whole"]["figures"].values()}
    assert marks == {"compiled", "derived"}
    assert (study().workdir / "plan.png").stat().st_size > 5000
    shown = capsys.readouterr().out
    for word in ("compiling whole", "all-reduce", "weak: step", "bound", "plan.json"):
        assert word in shown


def test_a_plan_is_made_again(tpus, study):
    """JAX would warn that it cannot read what it kept of the first."""
    assert planned(study(base=MLP), "v5e:2x2")["arms"]["base"]["fits"]
    jax.clear_caches()
    assert planned(study(base=MLP), "v5e:2x2")["arms"]["base"]["fits"]


def test_a_plan_of_words_split_by_the_model(tpus, study):
    report = planned(study(lstm=TEXT | {"train.mesh": "data:2,model:2"}), "v5e:2x2")
    arm = report["arms"]["lstm"]
    assert arm["unknown_loops"] == 0
    assert ["model"] in [row["axes"] for row in arm["collectives"]]
    assert max(row["count"] for row in arm["collectives"]) >= 20  # one a step of the sequence
    assert [p["chips"] for p in arm["scaling"]["weak"]] == [2, 4]


def test_a_plan_for_gpus_is_derived(study):
    report = planned(study(base=MLP), "h100:2x4")
    arm = report["arms"]["base"]
    assert {figure["how"] for figure in arm["figures"].values()} == {"derived"}
    assert arm["figures"]["operations"]["value"] > 0
    assert arm["scaling"]["weak"][-1]["chips"] == 8


def test_what_does_not_fit_is_said(tpus, study, capsys):
    huge = MLP | {"model.hidden": (40_000, 40_000), "optimizer.name": "adam"}
    report = planned(study(huge=huge), "v5e:2x2")
    assert report["arms"]["huge"]["fits"] is False
    assert "huge does not fit: Ran out of memory" in capsys.readouterr().out


def test_parameters_are_listed(study, capsys):
    plan(study(base=MLP | {"train.mesh": "fsdp:2,model:2"}), None, None)
    shown = capsys.readouterr().out
    for word in ("fsdp:2, model:2", "head/kernel", "256×10", "fsdp, model", "optimiser"):
        assert word in shown
    assert f"{4 * 256 * 10 // 4:,}" in shown


def test_a_large_parameter_that_is_left_whole(study, capsys):
    odd = MLP | {"train.mesh": "fsdp:8", "model.hidden": (521, 521)}  # a prime
    with pytest.raises(UserError, match=r"271,441 numbers, would be whole on each device"):
        plan(study(base=odd), None, None)
    assert "521×521" in capsys.readouterr().out  # the table tells which, first
    plan(study(base=odd | {"train.replicate": (".",)}), None, None)


def test_images_are_planned_without_one(study, capsys):
    config = {"data.name": "imagenet2012", "model.name": "resnet", "model.hidden": None}
    config |= {"data.augment": ("flip",), "data.normalize": "imagenet", "data.image_size": 32}
    plan(study(base=config), None, None)
    assert "64×1000" in capsys.readouterr().out


def test_described_sets(tiny):
    images = described(tiny({"data.name": "imagenet2012"}))
    assert len(images.train) == 1_281_167 and images.num_classes == 1000
    assert images.image_shape == (224, 224, 3)
    words = described(tiny(TEXT))
    assert len(words.train) == (829_250_940 - 1) // 20 and len(words.vocabulary) == 512
    assert described(tiny()) is None
    for split in (images.train, words.train):
        with pytest.raises(UserError, match=r"known by its facts alone.*--mode=plan"):
            split.read([0])
        with pytest.raises(UserError, match="known by its facts alone"):
            split.arrays()
    with pytest.raises(UserError, match="known by its facts alone"):
        words.train.rows(4, whole=False)


BAD = {
    "a chip": ({}, "v9:2x2", "--topology: found 'v9:2x2', expected one of the chips"),
    "a mesh": ({"train.mesh": "data:3"}, "v5e:2x2", "takes 3 devices, expected the 4 of v5e:2x2"),
    "a part": ({"train.mesh": "data:2"}, "v5e:2x2", "takes 2 devices, expected the 4 of v5e:2x2"),
    "seeds": ({"train.mesh": "seed:2,data:2"}, "v5e:2x2", "expected 1: one run spans all v5e:2x2"),
    "a batch": ({"data.batch_size": 30}, "v5e:2x2", r"multiple of the 4 parts .*\(nearest: 32\)"),
    "a precision": ({"train.precision": "float64"}, "v5e:2x2", "for which v5e has no unit"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_cannot_be_planned(tpus, study, what):
    changes, topology, message = BAD[what]
    with pytest.raises(UserError, match=message):
        plan(study(base=MLP | changes), topology, None)


def test_figures_as_a_person_reads_them():
    read = {
        (0.0213, "s"): "21.3 ms",
        (2.7e9, "bytes"): "2.7 GB",
        (1.5e12, "FLOP"): "1.5 TFLOP",
        (0.964, "%"): "96.4 %",
        (16384, "rows"): "16,384",
        ("memory", ""): "memory",
        (0, "bytes"): "0 B",
        (3.2e-5, "s"): "32 µs",
    }
    for (value, unit), text in read.items():
        assert spell({"value": value, "unit": unit}) == text


def test_a_plan_of_what_is_here_is_held_against_a_step(study):
    report = planned(study(base=MLP), "host:2")
    figures = report["arms"]["base"]["figures"]
    step, took = figures["step"]["value"], figures["step, measured"]["value"]
    assert figures["error of the prediction"]["value"] == pytest.approx(step / took - 1)
    assert 0 < took < 5 and 1e-7 < step < 5  # both of a step; how near they are, the machine says
    assert figures["step, measured"]["how"] == "measured"
