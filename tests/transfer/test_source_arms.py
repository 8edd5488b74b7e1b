"""Runs that start from the runs of another arm, or from a run's directory."""

import json

import jax
import numpy as np
import pytest

from research.commands.dry_run import dry_run
from research.commands.train import run_study
from research.config import UserError
from research.experiment import resolve
from research.train.checkpoint import best_variables
from research.train.start import starting_variables
from research.train.state import params_digest
from research.transfer.initial import transplant

EXPERIMENT = '''"""Do five digits help with the other five?"""

from research.config import get_config as defaults

scales = ("laptop",)


def get_config(scale):
    config = defaults()
    config.experiment.arms = ("scratch", "tuned*")
    config.experiment.baseline = "scratch"
    config.experiment.panels = ("test/accuracy",)
    config.model.name, config.model.hidden, config.model.norm = "mlp", (16,), "batch"
    config.data.batch_size, config.data.classes = 10, (5, 6, 7, 8, 9)
    config.train.steps, config.train.eval_every, config.train.log_every = 4, 2, 2
    config.train.tensorboard = False
    return config


def arms(scale):
    tuned = {"init_from": "arm:source", "transfer.replace_head": True}
    return {
        "source": {"data.classes": (0, 1, 2, 3, 4), "optimizer.learning_rate": 0.05},
        "scratch": {},
        "tuned": tuned | {"transfer.freeze": ("*", "!head")},
        "tuned_all": tuned,
        "again": {"init_from": "arm:tuned", "optimizer.learning_rate": 1e-30},
        "lost": {"init_from": "arm:sorce"},
        "round": {"init_from": "arm:about"},
        "about": {"init_from": "arm:round", "train.steps": 6},
        "wide": {"init_from": "arm:source", "model.hidden": (8,)},
        "three": {"init_from": "arm:source", "data.classes": (5, 6, 7)},
    }
'''


@pytest.fixture
def ask(tmp_path):
    (tmp_path / "five.py").write_text(EXPERIMENT)

    def ask(arms=(), seeds=(0, 1), **options):
        where = {"workdir": str(tmp_path / "w"), "arms": arms, "seeds": seeds}
        return resolve(str(tmp_path / "five.py"), "laptop", **where, **options)

    return ask


def results(study):
    return {(run.arm, run.seed): run.result() for run in study.runs(study.sources | study.configs)}


def equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_each_seed_starts_from_the_sources_run_of_that_seed(ask, capsys):
    study = ask()
    assert list(study.configs) == ["scratch", "tuned", "tuned_all"]
    assert list(study.sources) == ["source"]
    run_study(study, None, "test")
    ended = results(study)
    assert set(ended) == {
        (arm, seed) for arm in ("source", *study.configs) for seed in (0, 1)
    } and all(result["status"] == "finished" for result in ended.values())
    for seed in (0, 1):
        source, tuned, tuned_all = (
            best_variables(study.workdir / arm / f"seed_{seed}")
            for arm in ("source", "tuned", "tuned_all")
        )
        # What is frozen is still the source's; its head is not.
        for name in ("dense1", "norm1"):
            jax.tree.map(
                np.testing.assert_array_equal, source["params"][name], tuned["params"][name]
            )
        jax.tree.map(np.testing.assert_array_equal, source["batch_stats"], tuned["batch_stats"])
        for other in (source, tuned_all):
            kernels = [v["params"]["head"]["kernel"] for v in (other, tuned)]
            assert not np.array_equal(*kernels)
        assert not np.array_equal(*(v["params"]["dense1"]["kernel"] for v in (tuned, tuned_all)))
    summary = json.loads((study.workdir / "report" / "summary.json").read_text())
    assert list(summary["arms"]) == list(study.configs) and not summary["undeclared"]
    # Launched again, everything stands.
    before = {run.directory: run.result() for run in study.runs()}
    run_study(ask(), None, "test")
    assert before == {run.directory: run.result() for run in study.runs()}


def test_a_launch_goes_on_where_only_the_source_has_finished(ask, tmp_path):
    run_study(ask(["source"]), None, "test")
    source = results(ask(["source"]))
    run_study(ask(["tuned_all"], overrides={"experiment.baseline": "tuned_all"}), None, "test")
    after = results(ask(["source"]))
    assert after == source  # trained once
    apart = ask(["tuned_all"], overrides={"experiment.baseline": "tuned_all"})
    digests = {key: r["params_digest"] for key, r in results(apart).items()}
    at_once = resolve(
        str(tmp_path / "five.py"),
        "laptop",
        workdir=str(tmp_path / "other"),
        arms=["tuned_all"],
        seeds=(0, 1),
        overrides={"experiment.baseline": "tuned_all"},
    )
    run_study(at_once, None, "test")
    assert digests == {key: r["params_digest"] for key, r in results(at_once).items()}


def test_sources_of_sources_and_tuning(ask):
    """Of a chain of three; the tuned arm's points are tried from the source's first seed."""
    study = ask(
        ["again"],
        seeds=(3,),
        overrides={
            "experiment.baseline": "again",
            "experiment.tune.fields": ("train.label_smoothing",),
            "experiment.tune.grid": (0.0, 0.5),
        },
    )
    assert list(study.sources) == ["tuned", "source"]
    assert [list(part.configs) for part in study.generations()] == [
        ["source"],
        ["tuned"],
        ["again"],
    ]
    run_study(study, None, "test")
    ended = results(study)
    # It learns nothing, so it ends where it began.
    best = best_variables(study.workdir / "tuned" / "seed_3")
    assert ended["again", 3]["params_digest"] == params_digest(best["params"])
    tried = [run for run in study.tuning_runs() if run.arm == "again"]
    assert len(tried) == 2
    for run in tried:
        assert run.result()["config"]["init_from"].endswith("tuned/seed_3")


def test_the_dry_run_counts_sources(ask, capsys):
    dry_run(ask(), None)
    assert "8 runs to train" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arm", "words"),
    [
        ("lost", r"arm lost: init_from: arm: found 'sorce'.*did you mean 'source'"),
        ("round", r"arms .* start from one another"),
    ],
)
def test_sources_that_cannot_be(ask, arm, words):
    with pytest.raises(UserError, match=words):
        ask([arm])


def test_networks_that_do_not_fit_are_refused_before_training(ask):
    with pytest.raises(
        UserError, match=r"arm wide: .*(.|\n)*misshapen: params/dense1/kernel: "
    ) as e:
        run_study(ask(["wide"]), None, "test")
    assert "replace_head" not in str(e.value) and not ask(["wide"]).workdir.exists()
    with pytest.raises(UserError, match=r"found \[16, 5\], expected \[16, 3\](.|\n)*replace_head"):
        run_study(ask(["three"]), None, "test")


def test_heads_of_other_classes():
    """Kept where nothing is said, replaced where `transfer.replace_head` says so."""
    fresh = {"params": {"body": {"kernel": np.zeros((2, 2))}, "head": {"kernel": np.zeros((2, 3))}}}
    ones = jax.tree.map(np.ones_like, fresh)
    assert transplant(fresh, ones, "x")["params"]["head"]["kernel"].all()
    replaced = transplant(fresh, ones, "x", replace_head=True)["params"]
    assert replaced["body"]["kernel"].all() and not replaced["head"]["kernel"].any()
    more = {"params": ones["params"] | {"extra": {"bias": np.ones(2)}}}
    with pytest.raises(UserError, match=r"too many: params/extra/bias \[2\]"):
        transplant(fresh, more, "x")
    with pytest.raises(UserError, match=r"missing: params/extra/bias \[2\]"):
        transplant(more, fresh, "x")


@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_a_run_starts_from_a_runs_directory(train_run, make_run, tiny, digits, ema):
    """From what that run was tested with: its averaged parameters, where it has some."""
    source = train_run("source", {"train.ema": ema})
    directory = make_run("source").directory
    still = {"init_from": str(directory), "optimizer.learning_rate": 1e-30}
    ended = train_run("run", still)
    assert (ended["params_digest"] == source["params_digest"]) == (ema == 0.0)
    assert ended["metrics"]["test/loss"] == pytest.approx(source["metrics"]["test/loss"], rel=1e-6)
    assert ended["config"]["weights_sha256"] == source["params_digest"]
    variables = starting_variables(tiny(still), digits)
    assert params_digest(variables["params"]) == ended["params_digest"]


def test_a_directory_without_a_result(tiny, digits, tmp_path):
    with pytest.raises(UserError, match=r"init_from: found no result in .*has finished"):
        starting_variables(tiny({"init_from": str(tmp_path)}), digits)
