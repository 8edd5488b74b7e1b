import pytest

from research.checks import CHOICES, RANGES, validate
from research.config import UserError, flatten, get_config, nearest, override, plain, unknown


def config(**changes):
    base = override(get_config(), {"train.steps": 10}, "test")
    return override(base, {k.replace("__", "."): v for k, v in changes.items()}, "test")


def refused(changes, *words):
    with pytest.raises(UserError) as error:
        validate(override(config(), changes, "--config"), "--config")
    for word in words:
        assert str(word) in str(error.value)


def test_the_error_for_a_name_tells_the_nearest():
    message = str(unknown("model.norm", "bach", ["batch", "group"]))
    assert message == (
        "model.norm: found 'bach', expected one of batch, group; did you mean 'batch'?"
    )
    assert nearest("zzz", ["batch"]) == ""


def test_defaults_are_valid_but_for_a_length():
    validate(config())
    with pytest.raises(UserError, match=r"train\.steps: found 0"):
        validate(get_config())


def test_steps_and_epochs_are_one_length():
    with pytest.raises(UserError, match=r"both train\.steps and train\.epochs"):
        override(get_config(), {"train.steps": 5, "train.epochs": 1.0}, "--config")
    epochs = override(config(), {"train.epochs": 2.0}, "arm")
    assert (epochs.train.steps, epochs.train.epochs) == (0, 2.0)
    steps = override(epochs, {"train.steps": 7}, "arm")
    assert (steps.train.steps, steps.train.epochs) == (7, 0.0)


def test_a_misspelt_field_in_an_experiment_is_an_error():
    with pytest.raises(AttributeError, match="stepz"):
        get_config().train.stepz = 3
    with pytest.raises(AttributeError, match="stepz"):
        config(train__steps=3).train.stepz = 3


def test_override_leaves_what_it_was_given():
    base = config()
    changed = override(base, {"optimizer.clip.kind": "value", "model.hidden": (3,)}, "test")
    assert base.optimizer.clip.kind == "none" and base.model.hidden is None
    assert changed.optimizer.clip.kind == "value" and changed.model.hidden == (3,)


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("model.nrom", "batch", "did you mean 'model.norm'"),
        ("nothing", 1, "--config: field"),
        ("data.batch_size", "many", "expected int"),
        ("data.batch_size", 1.5, "expected int"),
        ("optimizer.learning_rate", "fast", "expected float"),
        ("optimizer.clip", 3, "optimizer.clip"),
        ("model", "resnet", "model"),
        ("data.augment", "flip", "expected tuple"),
        ("optimizer.nesterov", "yes", "expected bool"),
    ],
)
def test_override_refuses_unknown_fields_and_types(field, value, expected):
    with pytest.raises(UserError, match="--config") as error:
        override(config(), {field: value}, "--config")
    assert expected in str(error.value)


@pytest.mark.parametrize("field", CHOICES)
def test_choices_are_checked(field):
    refused({field: "bogus"}, field, "'bogus'", *CHOICES[field])


@pytest.mark.parametrize("field", RANGES)
def test_ranges_are_checked(field):
    low, high, closed = RANGES[field]
    kind = type(flatten(get_config())[field])
    refused({field: kind(low - 1)}, field, low - 1)
    if not closed:
        refused({field: kind(low)}, field, "more than")
    if high < float("inf"):
        refused({field: kind(high + 1)}, field, f"at most {high}" if high >= 1 else "less than 1")
    if kind is float:
        refused({field: float("nan")}, field)
        refused({field: float("inf")}, field)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train.mesh": "data:0"}, ["--mesh", "data:0"]),
        ({"data.imbalance": 0.1, "data.train_size": 50}, ["data.train_size", "data.imbalance=0.1"]),
        ({"train.mesh": "data:2,data:4"}, ["--mesh", "twice"]),
        ({"train.parallel": "pmapp"}, ["train.parallel", "'pmap'"]),
        ({"train.accumulate": 3}, ["train.accumulate", "divisor", 128]),
        ({"optimizer.schedule.boundaries": (0.5, 1.5)}, ["optimizer.schedule.boundaries", 1.5]),
        ({"optimizer.schedule.boundaries": ("half",)}, ["optimizer.schedule.boundaries", "half"]),
    ],
    ids=str,
)
def test_the_rest_is_checked(changes, words):
    refused(changes, *words)


def test_flatten_and_plain_hold_everything():
    flat = flatten(get_config())
    assert flat["optimizer.schedule.boundaries"] == (0.5, 0.75)
    assert flat["experiment.tune.grid"] == ()
    assert plain(get_config())["optimizer"]["schedule"]["boundaries"] == [0.5, 0.75]
    assert set(CHOICES) | set(RANGES) <= set(flat)
