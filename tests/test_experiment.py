import dataclasses
import textwrap
from pathlib import Path

import pytest

from research import experiment
from research.commands.train import Datasets, prepare
from research.config import UserError
from research.experiment import cross, levels, load, parse_seeds, resolve
from research.files import write_json

QUESTION = '''
    """Does width matter?

    Not much.
    """
    from research.config import get_config as defaults

    def get_config(scale):
        config = defaults()
        config.experiment.baseline = "narrow"
        config.experiment.seeds = 2
        config.model.name = "mlp"
        config.model.hidden = (8,)
        config.data.batch_size = 16
        config.train.steps = {"laptop": 4, "gpu": 40}[scale]
        return config

    def arms(scale):
        return {
            "narrow": {"model.hidden": (4,)},
            "wide": {"model.hidden": (16,)},
            "wide_long": {"model.hidden": (16,), "train.epochs": 1.0},
            "wide_clipped": {"model.hidden": (16,), "optimizer.clip.kind": "value"},
        }

    scales = ("laptop", "gpu")
'''


@pytest.fixture
def question(tmp_path):
    """Write an experiment outside the repository, with replacements; return its path."""

    def write(*changes, name="width.py"):
        text = textwrap.dedent(QUESTION)
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write


def refused(*words, **arguments):
    arguments = {"experiment": "normalization", "scale": "laptop"} | arguments
    with pytest.raises(UserError) as error:
        resolve(arguments.pop("experiment"), arguments.pop("scale"), **arguments)
    for word in words:
        assert word in str(error.value), error.value


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("1", (0,)), ("3", (0, 1, 2)), ("3,", (3,)), ("1,4", (1, 4)), ("4,1,4", (4, 1)), ("0,", (0,))],
)
def test_seeds(text, seeds):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "0", "-1", "-1,2", "a", "1,b", "1.5", ",", "1 2"])
def test_seeds_that_cannot_be(text):
    with pytest.raises(UserError, match="--seeds: found"):
        parse_seeds(text)


def test_an_experiment_outside_the_repository(question):
    study = resolve(question(), "laptop")
    assert (study.name, study.scale, study.title) == ("width", "laptop", "Does width matter?")
    assert list(study.configs) == ["narrow", "wide", "wide_long", "wide_clipped"]
    assert study.seeds == (0, 1) and str(study.workdir) == "runs/width-laptop"
    assert [(run.seed, run.arm) for run in study.runs()][:5] == [
        (0, "narrow"), (0, "wide"), (0, "wide_long"), (0, "wide_clipped"), (1, "narrow"),
    ]  # fmt: skip
    run = study.runs()[5]
    assert run.directory == study.workdir / "wide" / "seed_1" and run.test


def test_a_config_file_is_named_after_its_folder(question, tmp_path):
    (tmp_path / "depth").mkdir()
    assert load(question(name="depth/config.py"))[0] == "depth"


def test_precedence(question):
    """Defaults < scale < --config < arm."""
    study = resolve(
        question(), "gpu", overrides={"optimizer.clip.threshold": 0.5, "data.batch_size": 32}
    )
    wide = study.configs["wide"]
    assert wide.optimizer.momentum == 0.9  # default
    assert wide.train.steps == 40 and wide.model.name == "mlp"  # scale, over the default
    assert wide.data.batch_size == 32  # flag, over the scale's
    assert wide.model.hidden == (16,)  # arm, over the scale's
    long = study.configs["wide_long"]
    assert (long.train.steps, long.train.epochs) == (0, 1.0)  # an arm's length, over the scale's
    clip = study.configs["wide_clipped"].optimizer.clip
    assert (clip.kind, clip.threshold) == ("value", 0.5)


def test_a_field_that_arms_set_is_refused_by_their_names(question):
    path = question()
    refused(
        "--config.optimizer.clip.kind", "wide_clipped",
        experiment=path, overrides={"optimizer.clip.kind": "adaptive"},
    )  # fmt: skip
    # Its own value is looked at first; and arms that are not run do not matter.
    refused(
        "optimizer.clip.kind: found 'adaptiv'", "did you mean 'adaptive'",
        experiment=path, overrides={"optimizer.clip.kind": "adaptiv"},
    )  # fmt: skip
    study = resolve(path, "laptop", arms=["narrow"], overrides={"optimizer.clip.kind": "adaptive"})
    assert study.configs["narrow"].optimizer.clip.kind == "adaptive"


def test_a_length_that_an_arm_sets_in_other_units_is_refused_too(question):
    refused("wide_long", experiment=question(), overrides={"train.steps": 9})


def test_arms_by_pattern_in_the_experiments_order(question):
    path = question()
    study = resolve(path, "laptop", arms=["wide_*", "narrow"])
    assert list(study.configs) == ["narrow", "wide_long", "wide_clipped"]
    refused("--arms: found 'wid'", "did you mean 'wide'", experiment=path, arms=["wid"])
    refused("--arms: found 'tall*'", experiment=path, arms=["wide", "tall*"])


def test_names_that_are_unknown():
    refused("--experiment", "'normalisation'", "'normalization'", experiment="normalisation")
    refused("--scale", "'laptob'", "'laptop'", scale="laptob")
    refused("--experiment", "nowhere.py", experiment="nowhere.py")
    refused("--config: field", "'optimiser.name'", overrides={"optimiser.name": "sgd"})


@pytest.mark.parametrize("missing", ["get_config", "arms", "scales"])
def test_an_experiment_that_lacks_a_part(question, missing):
    old = f"def {missing}(" if missing != "scales" else "scales ="
    refused("width.py", f"`{missing}`", experiment=question((old, old.replace(missing, "other"))))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ([("return config", "return config +")], ["width.py", "SyntaxError"]),
        ([("import get_config", "import get_confg")], ["width.py", "ImportError"]),
        ([('baseline = "narrow"', 'baseline = "narow"')], ["baseline", "'narow'", "'narrow'"]),
        ([('"wide": {"model.hidden": (16,)}', '"wide": {"model.hidden": (4,)}')],
         ["narrow and wide", "same config"]),
        ([("clip.kind", "clip.knd")], ["arm wide_clipped", "'optimizer.clip.knd'"]),
        ([('clip.kind": "value"', 'clip.kind": "vlaue"')], ["arm wide_clipped", "'vlaue'"]),
        ([("seeds = 2", "seeds = 0")], ["experiment.seeds", "0"]),
        ([("seeds = 2", 'tune.grid = (0.1, -1.0)')], ["experiment.tune.grid", "-1.0"]),
        ([("seeds = 2", 'tune.grid = ("a",)')], ["experiment.tune.grid", "'a'"]),
        ([("seeds = 2", 'tune.fields = ("model.nrom",)')], ["tune.fields", "model.nrom"]),
        ([("seeds = 2", 'factors = ("model.nrom",)')], ["experiment.factors", "model.nrom"]),
        ([("seeds = 2", 'tune.grid = ((0.1, 0.2),)')], ["experiment.tune.grid", "(0.1, 0.2)"]),
        ([("hidden = (8,)", "hiden = (8,)")], ["width.py", "hiden"]),
        ([("config.train.steps = ", "config.train.steps = 'x' or ")], ["width.py"]),
        ([("return config", "return None")], ["width.py", "get_config"]),
        ([('"wide": {"model.hidden": (16,)}', '"wide": ("model.hidden", (16,))')], ["arms"]),
    ],
    ids=str,
)  # fmt: skip
def test_an_experiment_that_cannot_be(question, changes, words):
    refused(*words, experiment=question(*changes))


TUNE = ("seeds = 2", 'tune.grid = (0.1, 0.2)')  # fmt: skip


def finish(runs, metrics, status="finished"):
    for run, numbers in zip(runs, metrics, strict=True):
        write_json(
            run.directory / "result.json",
            {"status": "diverged" if numbers is None else status, "metrics": numbers or {}},
        )


def test_tuning_takes_the_best_on_validation(question, tmp_path):
    study = resolve(question(TUNE), "laptop", arms=["narrow", "wide"], workdir=str(tmp_path / "r"))
    runs = study.tuning_runs()
    assert [(r.arm, r.config.optimizer.learning_rate) for r in runs] == [
        ("narrow", 0.1), ("wide", 0.1), ("narrow", 0.2), ("wide", 0.2),
    ]  # fmt: skip
    assert not any(run.test for run in runs)
    assert {run.seed for run in runs}.isdisjoint(study.seeds)
    assert len({run.directory for run in runs}) == 4

    def scores(accuracy, loss):
        return {"validation/accuracy": accuracy, "validation/loss": loss, "test/accuracy": 1.0}

    finish(runs, [scores(0.9, 0.3), None, scores(0.9, 0.2), scores(0.1, 9.0)])
    choices = study.choose()
    best = {"optimizer.learning_rate": 0.2}
    assert {arm: choice["chosen"] for arm, choice in choices.items()} == {
        "narrow": best,
        "wide": best,
    }
    assert [row["point"] for row in choices["narrow"]["grid"]] == [
        {"optimizer.learning_rate": 0.1},
        best,
    ]
    assert "test/accuracy" not in choices["narrow"]["grid"][0]["metrics"]
    tuned = study.tuned_configs()
    assert {c.optimizer.learning_rate for c in tuned.values()} == {0.2}
    assert study.configs["wide"].optimizer.learning_rate == 0.1


def test_tuning_over_several_seeds_takes_the_best_mean(question, tmp_path):
    tune = ("seeds = 2", "tune.grid = (0.1, 0.2); config.experiment.tune.seeds = 2")
    study = resolve(question(tune), "laptop", arms=["narrow"], workdir=str(tmp_path / "r"))
    runs = study.tuning_runs()
    assert [(r.config.optimizer.learning_rate, r.seed) for r in runs] == [
        (0.1, 1000), (0.1, 1001), (0.2, 1000), (0.2, 1001),
    ]  # fmt: skip
    metrics = [{"validation/accuracy": a, "validation/loss": 1.0} for a in (0.9, 0.2, 0.6, 0.7)]
    finish(runs, metrics)
    choice = study.choose()["narrow"]
    assert choice["chosen"] == {"optimizer.learning_rate": 0.2}
    means = [row["metrics"]["validation/accuracy"] for row in choice["grid"]]
    assert means == pytest.approx([0.55, 0.65])
    finish(runs, [*metrics[:2], None, metrics[3]])
    choice = study.choose()["narrow"]
    assert choice["chosen"] == {"optimizer.learning_rate": 0.1}
    assert choice["grid"][1]["status"] == "diverged" and choice["grid"][1]["metrics"] == {}


def test_tuning_over_two_fields(question, tmp_path):
    tune = (
        'tune.fields = ("optimizer.learning_rate", "optimizer.schedule.warmup")\n'
        "    config.experiment.tune.grid = ((0.1, 0.0), (0.1, 0.5), (0.2, 0.0))"
    )
    path = question(
        ("seeds = 2", tune),
        ('"wide_long": {', '"wide_long": {"optimizer.learning_rate": 0.3, '),
    )
    study = resolve(path, "laptop", arms=["narrow", "wide_long"], workdir=str(tmp_path / "r"))
    assert len(study.points("narrow")) == 3
    # The learning rate that an arm sets is not tuned; what is left of the grid is, once.
    assert study.points("wide_long") == [
        {"optimizer.schedule.warmup": 0.0}, {"optimizer.schedule.warmup": 0.5},
    ]  # fmt: skip
    runs = study.tuning_runs()
    assert len({run.directory for run in runs}) == len(runs) == 5
    best = {"narrow": (0.2, 0.0), "wide_long": (0.3, 0.5)}

    def score(run):
        own = run.config.optimizer
        won = (own.learning_rate, own.schedule.warmup) == best[run.arm]
        return {"validation/accuracy": 0.9 if won else 0.5, "validation/loss": 1.0}

    finish(runs, [score(run) for run in runs])
    for arm, config in study.tuned_configs().items():
        own = config.optimizer
        assert (own.learning_rate, own.schedule.warmup) == best[arm]
    overrides = {"optimizer.learning_rate": 0.7}
    study = resolve(path, "laptop", arms=["narrow"], overrides=overrides)
    assert [run.config.optimizer.schedule.warmup for run in study.tuning_runs()] == [0.0, 0.5]
    assert {run.config.optimizer.learning_rate for run in study.tuning_runs()} == {0.7}


def test_crossing_levels_makes_every_combination():
    clip = {"off": {"optimizer.clip.kind": "none"}, "on": {"optimizer.clip.kind": "value"}}
    arms = cross(levels("model.depth", 8, 20, prefix="d"), clip)
    assert list(arms) == ["d8-off", "d8-on", "d20-off", "d20-on"]
    assert arms["d20-on"] == {"model.depth": 20, "optimizer.clip.kind": "value"}
    with pytest.raises(UserError, match="'a-b-c'"):
        cross({"a": {}, "a-b": {}}, {"b-c": {}, "c": {}})
    with pytest.raises(UserError, match=r"model\.depth in two factors"):
        cross(levels("model.depth", 8), levels("model.depth", 20))


def test_factors_are_the_values_that_the_arms_resolve_to(question):
    factors = '("model.hidden", "optimizer.clip.kind")'
    path = question(("seeds = 2", f"factors = {factors}"))
    study = resolve(path, "laptop", arms=["narrow", "wide", "wide_clipped"])
    assert study.factors() == {
        "model.hidden": {"narrow": [4], "wide": [16], "wide_clipped": [16]},
        "optimizer.clip.kind": {"narrow": "none", "wide": "none", "wide_clipped": "value"},
    }
    refused("experiment.factors", "wide and wide_long", "clip.kind=none", experiment=path)


def test_a_switch_that_is_not_set_has_the_models_own_value():
    """So an arm that sets it to just that is no other arm."""
    overrides = {"experiment.factors": ("model.norm", "model.pool")}
    study = resolve("normalization", "laptop", overrides=overrides, arms=["batch", "group"])
    assert study.factors()["model.pool"] == {"batch": "average", "group": "average"}
    assert study.configs["batch"].model.pool is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ('tune.fields = ("model.skip",)\n    config.experiment.tune.grid = ("bogus",)',
         ["model.skip", "'bogus'"]),
        ('tune.fields = ("experiment.seeds",)', ["tune.fields", "experiment.seeds", "all arms"]),
        ('tune.fields = ("optimizer.b1", "optimizer.b1")', ["tune.fields", "each field once"]),
        ('tune.grid = (0.1, 0.2)\n    config.experiment.tune.seed = 1', ["tune.seed", "found 1"]),
        ('tune.seeds = 0', ["experiment.tune.seeds", "0"]),
        ('factors = ("optimizer.learning_rate",)\n    config.experiment.tune.grid = (0.1, 0.2)',
         ["experiment.factors", "optimizer.learning_rate", "tuned"]),
        ('factors = ("experiment.seeds",)', ["experiment.factors", "experiment.seeds"]),
        ('factors = ("model.hidden",)\n    config.experiment.within = ("model.hidden",)',
         ["experiment.within", "model.hidden", "not all"]),
    ],
    ids=str,
)  # fmt: skip
def test_tuning_and_factors_that_cannot_be(question, changes, words):
    model = ('model.name = "mlp"', 'model.name = "resnet"')
    hidden = ("config.model.hidden = (8,)", "")
    path = question(("seeds = 2", changes), *((model, hidden) if "skip" in changes else ()))
    arms = ["narrow"]
    if "skip" in changes:
        text = Path(path).read_text().replace('"narrow": {"model.hidden": (4,)}', '"narrow": {}')
        Path(path).write_text(text)
    refused(*words, experiment=path, arms=arms)


def test_arms_tuned_over_different_fields_are_distinct(question):
    rate, warmup = '"optimizer.learning_rate": 0.1', '"optimizer.schedule.warmup": 0.0'
    path = question(
        (
            "seeds = 2",
            'tune.fields = ("optimizer.learning_rate", "optimizer.schedule.warmup")\n'
            "    config.experiment.tune.grid = ((0.1, 0.0), (0.2, 0.5))",
        ),
        ('"narrow": {', f'"slow": {{"model.hidden": (4,), {warmup}}}, "narrow": {{{rate}, '),
    )
    study = resolve(path, "laptop", arms=["slow", "narrow"])
    assert [len(study.points(arm)) for arm in ("slow", "narrow")] == [2, 2]


def test_a_tuned_arm_and_one_fixed_at_the_default_are_distinct(question):
    path = question(
        TUNE,
        ('"wide": {', '"fixed": {"model.hidden": (4,), "optimizer.learning_rate": 0.1}, "wide": {'),
    )
    assert list(resolve(path, "laptop", arms=["narrow", "fixed"]).configs) == ["narrow", "fixed"]


def test_what_is_fixed_is_not_tuned(question):
    path = question(TUNE, ('"optimizer.clip.kind": "value"', '"optimizer.learning_rate": 0.7'))
    assert {run.arm for run in resolve(path, "laptop").tuning_runs()} == {
        "narrow", "wide", "wide_long",
    }  # fmt: skip
    overrides = {"optimizer.learning_rate": 0.3}
    study = resolve(path, "laptop", arms=["narrow"], overrides=overrides)
    assert study.tuning_runs() == []
    assert study.configs["narrow"].optimizer.learning_rate == 0.3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data.batch_size": 5000}, ["data.batch_size", "5000", "1257"]),
        ({"data.augment": ("flop",)}, ["data.augment", "'flop'", "'flip'"]),
        ({"data.name": "digts"}, ["data.name", "digts"]),
        ({"model.name": "resnett"}, ["model.name", "'resnet'"]),
        ({"model.norm": "bach"}, ["model.norm", "'bach'", "'batch'"]),
        ({"model.name": "resnet", "model.depth": 9}, ["depth", "9", "8"]),
        ({"train.mesh": "data:3"}, ["--mesh", "takes 3", "8 here"]),
        ({"train.mesh": "data:8", "data.batch_size": 20}, ["data.batch_size", "20", "8 parts"]),
        ({"train.mesh": "fsdp:8", "data.eval_batch_size": 20}, ["data.eval_batch_size", "20"]),
        (
            {"train.mesh": "data:8", "data.batch_size": 8, "train.accumulate": 2},
            ["16 parts", "2 mi"],
        ),
        ({"train.batch_statistics": "device"}, ["train.batch_statistics", "'global'"]),
        ({"train.mesh": "model:2", "train.parallel": "pmap"}, ["--parallel", "'pmap'", "'jit'"]),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_before_anything_is_written(question, tmp_path, changes, words):
    path = question(('"narrow": {"model.hidden": (4,)}', '"narrow": {"train.patience": 3}'))
    folder = tmp_path / "runs"
    with pytest.raises(UserError) as error:
        study = resolve(path, "laptop", arms=["narrow"], overrides=changes, workdir=str(folder))
        prepare(study, Datasets(None))
    for word in words:
        assert word in str(error.value), error.value
    assert not folder.exists()


def test_every_experiment_of_the_repository_is_found():
    for name, path in experiment.experiments().items():
        assert path.is_file() and load(name)[0] == name
    assert "normalization" in experiment.experiments()


def test_runs_are_values(question):
    run = resolve(question(), "laptop").runs()[0]
    assert dataclasses.replace(run, seed=9) != run


def test_a_value_is_judged_before_it_is_refused_for_an_arms_sake(question):
    with pytest.raises(UserError, match="'bach', expected one of none, batch"):
        resolve("normalization", "laptop", overrides={"model.norm": "bach"})
    with pytest.raises(UserError, match="arms none, batch"):
        resolve("normalization", "laptop", overrides={"model.norm": "batch"})


def test_another_model_drops_the_switches_it_does_not_take():
    study = resolve("normalization", "laptop", overrides={"model.name": "mlp"}, arms=["batch"])
    assert study.configs["batch"].model.depth is None
    with pytest.raises(UserError, match=r"model\.depth"):
        resolve("normalization", "laptop", overrides={"model.name": "mlp", "model.depth": 8})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (('scales = ("laptop", "gpu")', 'scales = "laptop"'), ["scales", "'laptop'", "tuple"]),
        (('"narrow": {"model.hidden"', '"report": {"model.hidden"'), ["'report'"]),
        (('"narrow": {"model.hidden"', '"na/rrow": {"model.hidden"'), ["'na/rrow'"]),
        (('{"model.hidden": (4,)}', '{"experiment.seeds": 2}'), ["experiment.seeds", "all arms"]),
    ],
    ids=str,
)
def test_an_experiment_file_that_cannot_be(question, change, words):
    with pytest.raises(UserError) as error:
        resolve(question(change), "laptop")
    for word in words:
        assert word in str(error.value), error.value


@pytest.mark.parametrize("panels", [(), ("test/acc",)])
def test_panels_are_judged_before_training(question, panels):
    with pytest.raises(UserError, match=r"experiment\.panels"):
        resolve(question(), "laptop", overrides={"experiment.panels": panels})
