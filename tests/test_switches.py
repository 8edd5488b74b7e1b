"""Every field of the config that claims to change training does so; none is forgotten.

The optimiser's fields are held against its updates, the others against what a run computes.
"""

import itertools

import jax
import numpy as np
import optax
import pytest
from PIL import Image

from research.commands.train import data_options
from research.config import flatten, get_config, override
from research.data.feed import make_feed
from research.data.sources import load_dataset
from research.distributed.mesh import batch_sharding
from research.models import SEQUENCE_MODELS, switches_of
from research.train.optimizer import hyperparams, make_optimizer
from research.train.program import (
    batch_shapes,
    program_key,
    pure_functions,
    state_shapes,
)
from research.train.state import params_digest
from research.train.tasks import total_steps

RESNET = {"model.name": "resnet", "model.hidden": None, "model.depth": 8, "model.width": 8}
LENET = {"model.name": "lenet", "model.hidden": None}
MOBILENET = {"model.name": "mobilenet_v1", "model.hidden": None, "model.width_multiplier": 0.25}
ADAM = {"optimizer.name": "adam"}
STEP = {"optimizer.schedule.name": "step"}
VALUE = {"optimizer.clip.kind": "value", "optimizer.clip.threshold": 0.05}

# Field -> (what makes it matter, its other value).
OPTIMIZER = {
    "optimizer.name": ({}, "rmsprop"),
    "optimizer.learning_rate": ({}, 0.05),
    "optimizer.momentum": ({}, 0.5),
    "optimizer.nesterov": ({}, True),
    "optimizer.b1": (ADAM, 0.5),
    "optimizer.b2": (ADAM, 0.9),
    "optimizer.eps": (ADAM, 0.1),
    "optimizer.l1": ({}, 0.01),
    "optimizer.l2": ({}, 0.01),
    "optimizer.weight_decay": ({}, 0.01),
    "optimizer.decay_norm_and_bias": ({"optimizer.l2": 0.1}, True),
    "optimizer.schedule.name": ({}, "cosine"),
    "optimizer.schedule.warmup": ({}, 0.5),
    "optimizer.schedule.boundaries": (STEP, (0.9,)),
    "optimizer.schedule.factor": (STEP, 0.5),
    "optimizer.clip.kind": ({"optimizer.clip.threshold": 0.05}, "value"),
    "optimizer.clip.threshold": (VALUE, 0.01),
}
# Those that a compiled program does not see: arms which differ in them share one.
RUNTIME = {"optimizer.learning_rate", "optimizer.clip.threshold"}

MODEL = {
    "model.name": ({"model.hidden": None}, "resnet"),
    "model.depth": (RESNET, 14),
    "model.width": (RESNET, 4),
    "model.width_multiplier": (MOBILENET, 0.5),
    "model.hidden": ({}, (8,)),
    "model.filters": (LENET, (4, 8)),
    "model.subsample": (LENET, "stride"),
    "model.shared": (LENET, False),
    "model.norm": ({}, "layer"),
    "model.norm_groups": ({"model.norm": "group"}, 2),
    "model.activation": ({}, "tanh"),
    "model.skip": (RESNET, "none"),
    "model.kernel_init": ({}, "glorot"),
    "model.pool": (RESNET, "max"),
    "model.padding": (RESNET, "reflect"),
    "model.separable": (MOBILENET, False),
    "model.use_bias": ({}, False),
    "model.dropout": ({}, 0.5),
    "model.spatial_dropout": (RESNET, 0.5),
    "model.norm_epsilon": (RESNET, 1e-3),
    "model.norm_momentum": (RESNET, 0.99),
}

TRAINING = {
    "data.name": ({"data.image_size": 8}, "folder"),
    "data.batch_size": ({}, 16),
    "data.augment": ({}, ("pad_crop",)),
    "data.normalize": ({}, "symmetric"),
    "data.image_size": ({}, 4),
    "data.classes": ({}, (3, 5)),
    "data.imbalance": ({}, 0.1),
    "data.train_size": ({}, 100),
    "data.domain": ({}, "inverted"),
    "transfer.freeze": ({}, ("head",)),
    "transfer.rates": ({}, (("head", 0.1),)),
    "transfer.unfreeze_every": ({}, 1),
    "train.precision": ({}, "bfloat16"),
    "train.accumulate": ({}, 2),
    "train.ema": ({}, 0.9),
    "train.swa": ({}, 1.0),
    "train.label_smoothing": ({}, 0.1),
    "train.head": ({}, "sigmoid"),
    "train.class_weights": ({}, "balanced"),
}

# Field -> where it is tested instead, or why no number can depend on it.
ELSEWHERE = {
    "train.steps": "test_lengths",
    "train.epochs": "test_lengths",
    "train.patience": "train/test_loop.py: early stopping",
    "train.keep": "train/test_checkpoint.py: the last k",
    "train.log_every": "train/test_loop.py: rows are means since the row before",
    "train.eval_every": "train/test_loop.py: rows are ordered",
    "train.checkpoint_every": "train/test_loop.py: checkpoints can be rarer than evaluations",
    "train.diagnostics_every": "train/test_loop.py: diagnostics; it changes no number",
    "train.probes": "train/test_probes.py, commands/test_translate.py; they change no number",
    "train.mesh": "distributed/test_parallel.py: layouts; it changes no number",
    "train.parallel": "distributed/test_parallel.py: layouts; it changes no number",
    "train.batch_statistics": "distributed/test_parallel.py: statistics of each device",
    "train.profile": "train/test_utilization.py: a trace; it changes no number",
    "train.replicate": "distributed/test_sharding.py: what may stay whole",
    "train.tensorboard": "train/test_writers.py: events; it changes no number",
    "train.wandb": "train/test_writers.py: offline; it changes no number",
    "train.deterministic": "a GPU's: test_deterministic_sets_the_flags_of_xla",
    "model.aux_heads": "models/test_inception.py: what they add, and where",
    "model.aux_dropout": "models/test_inception.py: what is dropped, and where",
    **{
        f"model.{switch}": "models/rnn/: every switch of recurrent networks"
        for model in SEQUENCE_MODELS
        for switch in switches_of(model)
        if switch in get_config().model and f"model.{switch}" not in MODEL
    },
    "train.task": "train/test_sequence_tasks.py: speech can be spelt",
    "train.carried": "tasks/test_language_model.py: a carried state",
    "train.sampling": "tasks/test_translation.py: the chance to read its own tokens",
    "train.beams": "commands/test_translate.py: by the command and by the probe",
    "train.alpha": "commands/test_translate.py: by the command and by the probe",
    "train.recursive": "tasks/test_sequence.py: recursive forecasts",
    "quantize.kind": "compression/: what each kind computes, and keeps",
    "quantize.when": "compression/test_runs.py: after training and during",
    "quantize.calibration": "compression/test_calibration.py: against scikit-learn's quantiles",
    "quantize.batches": "compression/test_runs.py: they are what is observed",
    "init_from": "transfer/test_initial.py: a run starts from them",
    "distill.teacher": "train/test_teacher.py: arms, directories and weights",
    "distill.model": "train/test_teacher.py: published weights",
    "distill.temperature": "tasks/test_distillation.py: the loss in closed form",
    "distill.weight": "tasks/test_distillation.py: the loss in closed form",
    "distill.hint": "tasks/test_distillation.py: the loss in closed form",
    "distill.hint_weight": "tasks/test_distillation.py: the loss in closed form",
    "ensemble.of": "train/test_ensemble.py: disjoint ensembles of an arm's seeds",
    "ensemble.size": "train/test_ensemble.py: disjoint ensembles of an arm's seeds",
    "ensemble.members": "train/test_ensemble.py: disjoint ensembles of an arm's seeds",
    "data.length": "data/test_sequences.py: what it means to each set",
    "data.buckets": "data/test_buckets.py: batches of sequences of about one length",
    "data.horizon": "data/test_sequences.py: forecasts",
    "data.tokens": "data/test_sequences.py: texts",
    "data.vocabulary_size": "data/test_sequences.py: texts",
    "data.feed": "train/test_loop.py: feeds give the same bits",
    "data.workers": "data/test_feed.py: workers give the same bits",
    "data.eval_batch_size": "test_the_evaluation_batch_changes_no_number",
    "transfer.replace_head": "transfer/test_source_arms.py: heads of other classes",
    "transfer.adapt": "transfer/test_batch_norm.py, tasks/test_domain_adversarial.py",
    "transfer.adversary": "tasks/test_domain_adversarial.py",
    "transfer.target_domain": "train/test_probes.py: it is tested on; it changes no number",
    "data.validation": "test_shares_of_the_data",
    "data.test": "test_shares_of_the_data",
    "experiment.*": "chooses runs and changes none: test_experiment.py, report/",
}


def test_no_field_is_forgotten():
    fields = {f for f in flatten(get_config()) if not f.startswith("experiment.")}
    tables = (OPTIMIZER, MODEL, TRAINING, ELSEWHERE)
    for one, other in itertools.combinations(tables, 2):
        assert one.keys().isdisjoint(other)
    assert fields == {f for table in tables for f in table if f != "experiment.*"}


def both(tiny, field, cases):
    before, value = cases[field]
    first = tiny(before)
    return first, override(first, {field: value}, "test")


@pytest.mark.parametrize("field", OPTIMIZER)
def test_optimizer(tiny, digits, mesh, field):
    rng = np.random.default_rng(0)
    start = {"kernel": rng.normal(size=(4, 3)), "bias": rng.normal(size=3)}
    gradients = [{k: rng.normal(size=v.shape) for k, v in start.items()} for _ in range(6)]
    first, second = both(tiny, field, OPTIMIZER)
    ends = []
    for config in (first, second):
        optimizer, params = make_optimizer(config.optimizer, 6), start
        state = optax.tree.set(optimizer.init(params), **hyperparams(config.optimizer))
        update = jax.jit(optimizer.update)
        for gradient in gradients:
            updates, state = update(gradient, state, params)
            params = optax.apply_updates(params, updates)
        ends.append(params)
    assert np.abs(ends[0]["kernel"] - ends[1]["kernel"]).max() > 1e-4 or field.endswith("_bias")
    assert np.abs(ends[0]["bias"] - ends[1]["bias"]).max() > 1e-4 or field in (
        *("optimizer.l1", "optimizer.l2", "optimizer.weight_decay"),
    )
    shared = program_key(first, digits) == program_key(second, digits)
    assert shared == (field in RUNTIME)


def lowered(config, dataset, field):
    """Return the text of the program that the field is for."""
    init, step, _ = pure_functions(config, dataset)
    if field == "model.kernel_init":
        return jax.jit(init).lower(jax.random.key(0), hyperparams(config.optimizer)).as_text()
    state, batch = state_shapes(config, init), batch_shapes(dataset, config.data.batch_size)
    return jax.jit(step).lower(state, batch).as_text()


@pytest.mark.parametrize("field", MODEL)
def test_model(tiny, digits, mesh, field):
    first, second = both(tiny, field, MODEL)
    assert program_key(first, digits) != program_key(second, digits)
    assert lowered(first, digits, field) != lowered(second, digits, field)


@pytest.fixture(scope="module")
def dataset_of(tmp_path_factory, digits):
    """The dataset of a config; `folder` holds some digits, upside down."""
    root = tmp_path_factory.mktemp("folder")
    images, labels = digits.train.arrays().values()
    for i in range(200):
        path = root / str(labels[i]) / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(images[i, ::-1, :, 0]).save(path)

    def load(config):
        where = str(root) if config.data.name == "folder" else None
        return load_dataset(config.data.name, where, **data_options(config))

    return load


def outcome(config, dataset, mesh):
    """Return the digest of the parameters, and of those evaluated, after two steps."""
    init, step, _ = pure_functions(config, dataset)
    state = jax.jit(init)(jax.random.key(0), hyperparams(config.optimizer))
    feed = make_feed(
        dataset.train,
        kind="resident",
        batch_size=config.data.batch_size,
        seed=0,
        sharding=batch_sharding(mesh),
    )
    step = jax.jit(step)
    for _ in range(2):
        state, _ = step(state, next(feed))
    return params_digest(state.params), params_digest(state.variables["params"])


@pytest.fixture(scope="module")
def plain_outcome(tiny, digits, mesh):
    return outcome(tiny(), digits, mesh)


@pytest.mark.parametrize("field", TRAINING)
def test_training(tiny, mesh, dataset_of, plain_outcome, field):
    first, second = both(tiny, field, TRAINING)
    numbers = plain_outcome
    if TRAINING[field][0]:
        numbers = outcome(first, dataset_of(first), mesh)
    dataset = dataset_of(second)
    others = outcome(second, dataset, mesh)
    if field in ("train.ema", "train.swa"):
        assert numbers[0] == others[0] and numbers[1] != others[1] != others[0]
    else:
        assert numbers[0] != others[0]
    assert program_key(first, dataset_of(first)) != program_key(second, dataset)


def test_the_outcome_is_reproducible(tiny, digits, mesh, plain_outcome):
    assert outcome(tiny(), digits, mesh) == plain_outcome


@pytest.mark.parametrize("field", ["data.validation", "data.test"])
def test_shares_of_the_data(tiny, mesh, dataset_of, field):
    first, second = tiny(), tiny({field: 0.3})
    one, other = dataset_of(first), dataset_of(second)
    assert len(one.train) > len(other.train)
    assert not np.array_equal(one.train.indices[:50], other.train.indices[:50])
    assert program_key(first, one) != program_key(second, other)


def test_lengths(tiny, digits, mesh):
    steps, epochs = tiny({"train.steps": 9}), tiny({"train.epochs": 2.0})
    assert total_steps(steps, digits) == 9
    assert total_steps(epochs, digits) == round(2 * 1257 / 32)
    assert program_key(steps, digits) != program_key(epochs, digits)


def test_what_no_program_sees_shares_one(tiny, digits, mesh):
    for field, value in {
        "train.log_every": 3,
        "train.eval_every": 3,
        "train.keep": 5,
        "train.patience": 2,
        "train.tensorboard": True,
        "train.wandb": True,
        "experiment.seeds": 3,
    }.items():
        other = tiny({field: value})
        assert program_key(tiny(), digits) == program_key(other, digits), field


def test_the_evaluation_batch_changes_no_number(train_run):
    results = [train_run(f"e{n}", {"data.eval_batch_size": n}) for n in (7, 256)]
    assert results[0]["params_digest"] == results[1]["params_digest"]
    for name, value in results[0]["metrics"].items():
        if name.startswith("steps_to_"):
            continue
        assert value == pytest.approx(results[1]["metrics"][name], rel=1e-5), name


def test_deterministic_sets_the_flags_of_xla(monkeypatch, tmp_path):
    from research.distributed import startup

    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
    startup.start(deterministic=False)
    assert "deterministic" not in startup.os.environ["XLA_FLAGS"]
    startup.start(deterministic=True)
    flags = startup.os.environ["XLA_FLAGS"].split()
    assert "--xla_gpu_deterministic_ops=true" in flags and len(flags) == 3
