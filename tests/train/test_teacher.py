"""A student's teacher: an arm, a run's directory or published weights, and what it leaves alone."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from research.commands.train import Datasets, prepare
from research.commands.trained import open_trained
from research.config import UserError
from research.data.feed import make_feed
from research.distributed.mesh import batch_sharding
from research.models import create_model
from research.tasks.distillation import HINT, LOGITS
from research.train.checkpoint import best_variables
from research.train.tasks import make_task
from research.train.teacher import taught_feed, teacher_of
from research.transfer.torch_layout import to_torch

SEEDS = (0, 1)
EXPERIMENT = '''"""Does a student learn from a teacher?"""

from research.config import get_config as defaults

scales = ("laptop",)


def get_config(scale):
    config = defaults()
    config.experiment.arms = ("alone", "hint")
    config.experiment.baseline = "alone"
    config.experiment.panels = ("test/accuracy",)
    config.model.name, config.model.hidden = "mlp", (8,)
    config.data.batch_size, config.data.train_size = 10, 50
    config.train.steps, config.train.eval_every, config.train.log_every = 4, 2, 2
    config.train.tensorboard = False
    return config


def arms(scale):
    soft = {"distill.teacher": "arm:teacher"}
    few = {"data.classes": (0, 1, 2)}
    return {
        "teacher": {"model.hidden": (16,), "model.norm": "batch", "data.train_size": 0},
        "alone": {},
        "soft": soft,
        "hint": soft | {"distill.hint": ("act1", "act1")},
        "missing": soft | {"distill.hint": ("act1", "act3")},
        "own": soft | {"distill.hint": ("act2", "act1")},
        "few": soft | few,
        "swapped": {"distill.teacher": "arm:others", "data.classes": (3, 4, 5)},
        "others": few,
        "lost": {"distill.teacher": "arm:techer"},
        "seq": {"distill.teacher": "arm:teacher", "data.name": "pixels/digits",
                "model.name": "recurrent", "data.train_size": 0},
    }
'''


def test_a_study_trains_the_teacher_first(trained):
    assert list(trained.sources) == ["teacher"]
    for run in trained.runs():
        result = run.result()
        assert result["status"] == "finished"
        if run.arm == "alone":
            continue
        teacher = trained.workdir / "teacher" / f"seed_{run.seed}"
        assert result["config"]["distill"]["teacher"] == str(teacher)
        digest = json.loads((teacher / "result.json").read_text())["params_digest"]
        assert result["config"]["teacher_sha256"] == digest
        assert np.isfinite(result["metrics"]["train/soft_loss"])
        assert np.isfinite(result["metrics"]["train/hint_loss"])
        # The regressor of a hint is trained, but none of the student.
        assert result["parameters"] == 64 * 8 + 8 + 8 * 10 + 10
    summary = json.loads((trained.workdir / "report" / "summary.json").read_text())
    assert list(summary["arms"]) == ["alone", "hint"]


def test_the_checkpoint_is_the_students(trained):
    """No state holds the teacher, and what the hint needs is not the model's."""
    found = best_variables(trained.workdir / "hint" / "seed_0")["params"]
    assert set(found) == {"dense1", "head", "hint_regressor"}
    alone = open_trained(str(trained.workdir / "hint" / "seed_0"), None, {})
    assert set(alone.variables["params"]) == {"dense1", "head"}


def test_what_the_teacher_says(trained, mesh):
    """Kept by example and gathered with it: for each image what its network makes of it, with its
    own running statistics and its own normalisation, which is of all the digits."""
    run = next(run for run in trained.runs() if run.arm == "hint")
    dataset = Datasets(None).of(run.config)
    teacher, task = teacher_of(run.config, dataset), make_task(run.config, dataset)

    def batches(task, start=0, kind="resident"):
        def feed(split):
            options = {"kind": kind, "batch_size": 10, "seed": 3, "start": start}
            return make_feed(split, sharding=batch_sharding(mesh), **options)

        options = {"mesh": mesh, "batch_size": 16, "key": jax.random.key(5), "start": start}
        return taught_feed(teacher, task, dataset.train, feed, **options)

    variables = best_variables(trained.workdir / "teacher" / f"seed_{run.seed}")
    facts = json.loads((trained.workdir / "teacher/seed_0/config.json").read_text())["dataset"]

    def said(images):
        x = (images.reshape(len(images), -1) - facts["mean"][0]) / facts["std"][0]
        params, stats = variables["params"], variables["batch_stats"]["norm1"]
        x = x @ params["dense1"]["kernel"]
        x = (x - stats["mean"]) / np.sqrt(stats["var"] + 1e-5)
        x = np.maximum(x * params["norm1"]["scale"] + params["norm1"]["bias"], 0)
        return x @ params["head"]["kernel"] + params["head"]["bias"], x

    feed, streamed = batches(task), batches(task, kind="streaming")
    for _ in range(6):  # the second epoch, too
        batch = jax.device_get(next(feed))
        jax.tree.map(np.testing.assert_array_equal, batch, jax.device_get(next(streamed)))
        logits, hint = said(batch["image"] / 255)
        np.testing.assert_allclose(batch[LOGITS], logits, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(batch[HINT], hint, rtol=1e-3, atol=1e-4)
    streamed.close()
    # Where images are augmented it sees them as the student does, step by step the same.
    moving = dataclasses.replace(task, augmentations=("pad_crop", "mixup"))
    feed = batches(moving)
    seen = [jax.device_get(next(feed)) for _ in range(2)]
    for batch in seen:
        assert batch["image"].dtype == np.float32 and batch["label"].shape == (10, 10)
        logits, _ = said(batch["image"])
        np.testing.assert_allclose(batch[LOGITS], logits, rtol=1e-3, atol=1e-4)
    assert not np.array_equal(seen[0]["image"], seen[1]["image"])
    again = jax.device_get(next(batches(moving, start=1)))
    np.testing.assert_array_equal(again["image"], seen[1]["image"])


@pytest.mark.parametrize(
    ("arm", "words"),
    [
        ("missing", r"the teacher's endpoint: found 'act3', expected one of act1, logits"),
        ("own", r"the student's endpoint: found 'act2', expected one of act1, logits"),
        ("few", r"distill\.teacher=arm:teacher: found a teacher of 10 classes, expected .* 3 "),
        ("swapped", r"found a teacher of data\.classes=\(0, 1, 2\), expected \(3, 4, 5\)"),
        ("lost", r"distill\.teacher: arm: found 'techer'.*did you mean 'teacher'"),
        ("seq", r"distill\.teacher: found .* which holds sequences"),
    ],
)
def test_teachers_that_cannot_be(ask, arm, words):
    with pytest.raises(UserError, match=words):
        prepare(ask([arm], overrides={"experiment.baseline": arm}), Datasets(None))


def test_a_teacher_of_as_many_other_classes(trained):
    """The labels of a set of another name mean what they are called."""
    run = next(run for run in trained.runs() if run.arm == "hint")
    config, dataset = run.config.copy_and_resolve_references(), Datasets(None).of(run.config)
    record = json.loads((trained.workdir / "teacher/seed_0/config.json").read_text())
    assert record["dataset"]["class_names"] == [*map(str, range(10))]
    config.data.name = "mnist"
    assert teacher_of(config, dataset, record).name == "mlp"
    record["dataset"]["class_names"][3:5] = "cat", "dog"
    with pytest.raises(UserError, match="a teacher whose class 3 is 'cat', expected '3', that of"):
        teacher_of(config, dataset, record)
    del record["dataset"]["class_names"]  # as in older runs
    assert teacher_of(config, dataset, record).name == "mlp"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"distill.temperature": 0.0}, r"distill\.temperature: found 0"),
        ({"distill.weight": 1.5}, r"distill\.weight: found 1\.5, expected at least 0"),
        ({"distill.hint": ("act1",)}, r"distill\.hint: found \('act1',\), expected two"),
        ({"distill.hint": ("act1", "act1")}, r"distill\.hint: .* without a teacher"),
        ({"distill.teacher": "x", "train.head": "sigmoid"}, r"train\.head: .*expected 'softmax'"),
        ({"distill.teacher": "x.npz"}, r"distill\.model: found ''"),
        ({"distill.teacher": "x.npz", "distill.model": "mlp"}, r"distill\.teacher: found no file"),
    ],
)
def test_settings_that_cannot_be(ask, changes, words):
    with pytest.raises(UserError, match=words):
        prepare(ask(["alone"], overrides=changes), Datasets(None))


def test_published_weights_teach(tiny, digits, tmp_path):
    """A file of them, named as in torch; of another number of classes they are refused."""
    rng = np.random.default_rng(0)
    for classes in (10, 7):
        model = create_model("resnet20", num_classes=classes)
        fresh = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 8, 8, 1), np.float32))
        variables = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(x.dtype), fresh)
        np.savez(tmp_path / f"{classes}.npz", **to_torch("resnet20", variables))
        changes = {"distill.teacher": str(tmp_path / f"{classes}.npz")}
        teacher = teacher_of(tiny(changes | {"distill.model": "resnet20"}), digits)
        if classes == 10:
            jax.tree.map(np.testing.assert_array_equal, teacher.load((8, 8, 1)), variables)
    with pytest.raises(UserError, match=r"distill\.teacher=(.|\n)*the teacher is of other classes"):
        teacher.load((8, 8, 1))


def test_a_student_whether_or_not_it_is_cut(train_run, make_run):
    """With augmentation, of which the teacher sees the same draws at the same steps."""
    train_run("teacher")
    changes = {"distill.teacher": str(make_run("teacher").directory), "train.steps": 4}
    changes |= {"data.augment": ("pad_crop",), "train.accumulate": 2, "model.hidden": (8,)}
    whole = train_run("whole", changes)

    def cut(step, steps, row):
        if step == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        train_run("cut", changes, watch=cut)
    resumed = train_run("cut", changes)
    assert resumed["resumed_from"] == [2] and resumed["params_digest"] == whole["params_digest"]
