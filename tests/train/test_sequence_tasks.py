"""Every kind of sequence, trained for a few steps through the whole loop."""

import numpy as np
import pytest

from research.config import UserError
from research.data.sources import load_dataset
from research.train.program import program_key
from research.train.tasks import make_task

RECURRENT = {"model.name": "recurrent", "model.hidden": None, "model.hidden_size": 4}
KINDS = {  # what a run measures on test, beside its loss
    "toy/text": {"perplexity", "bits"},
    "toy/sentiment": {"accuracy", "f1", "auc"},
    "toy/motion_at_rates": {"accuracy", "f1", "auc"},  # with features beside
    "toy/series": {"mae", "persistence_mse"},
    "toy/chorales": {"frame_accuracy"},
    "toy/strokes": set(),
    "toy/translation": {"token_accuracy"},
    "copying": {"accuracy"},
    "adding": {"mae"},
}


def changes_for(name):
    changes = RECURRENT | {"data.name": name, "data.train_size": 64, "data.length": 8}
    if name == "toy/translation":
        changes |= {"model.name": "seq2seq", "model.embedding_size": 4, "data.length": 0}
    if name == "toy/text":
        changes |= {"data.train_size": 0, "data.batch_size": 8}
    if name == "toy/series":
        changes |= {"data.horizon": 4}
    return changes


def dataset_of(config):
    options = ("train_size", "length", "horizon", "tokens", "vocabulary_size")
    return load_dataset(config.data.name, **{name: config.data[name] for name in options})


@pytest.mark.parametrize("name", KINDS)
def test_trains(name, train_run, make_run):
    changes = changes_for(name)
    config = make_run("other", changes).config
    result = train_run("run", changes, dataset=dataset_of(config))
    assert result["status"] == "finished" and result["macs"] > 0
    metrics = result["metrics"]
    assert {f"test/{kind}" for kind in KINDS[name] | {"loss"}} <= metrics.keys()
    assert all(
        np.isfinite(v) for k, v in metrics.items() if k.startswith("test/") and k != "test/auc"
    )


def test_a_stream_resumed_carries_its_state_on(train_run, make_run):
    changes = changes_for("toy/text")
    dataset = dataset_of(make_run("other", changes).config)
    whole = train_run("whole", changes, dataset=dataset)

    def stop(step, steps, row):
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_run("broken", changes, dataset=dataset, watch=stop)
    resumed = train_run("broken", changes, dataset=dataset)
    assert resumed["resumed_from"] == [2]
    assert resumed["params_digest"] == whole["params_digest"]
    assert resumed["metrics"] == whole["metrics"]


def test_speech_can_be_spelt(make_run):
    changes = changes_for("toy/tones") | {"train.task": "transcription"}
    config = make_run("run", changes).config
    dataset = dataset_of(config)
    task = make_task(config, dataset)
    assert type(task).__name__ == "CTC"
    assert task.model.num_classes == len(dataset.target_vocabulary)
    named = make_run("run", changes_for("toy/tones")).config
    assert program_key(config, dataset) != program_key(named, dataset)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("toy/series", {"train.task": "tagging "}, "train.task: found 'tagging ', expected one of"),
        (
            "toy/series",
            {"train.task": "translation"},
            "which has no 'target_length'; expected 'fore",
        ),
        ("toy/series", {"model.name": "mlp"}, "expected 'recurrent' or 'linear'"),
        (
            "toy/series",
            {"model.name": "linear", "model.hidden_size": None, "train.recursive": True},
            "found 'linear' for the task 'forecasting' of data.name='toy/series', expected 'recurr",
        ),
        ("toy/translation", {"model.name": "recurrent"}, "expected 'seq2seq'"),
        (  # "three" needs a blank between its last letters
            "toy/tones",
            {"train.task": "transcription", "data.length": 5},
            r"data.length: example \d+ of train of data.name='toy/tones' has 5 steps, .* least 6",
        ),
        ("toy/series", {"data.augment": ("flip",)}, "data.augment: found flip, which is of images"),
        ("toy/series", {"model.padding": "same"}, "model.padding"),
        *(
            (name, {"model.bidirectional": True}, "model.bidirectional: found True for the task")
            for name in ("toy/text", "toy/chorales", "toy/strokes")
        ),
        (
            "toy/series",
            {"model.bidirectional": True, "train.recursive": True},
            "has seen what it is to tell",
        ),
        ("toy/sentiment", {"model.readout": "first"}, "model.readout: found 'first', expected one"),
    ],
)
def test_what_cannot_be_is_said(name, changes, message, make_run):
    config = make_run("run", changes_for(name) | changes).config
    with pytest.raises(UserError, match=message):
        make_task(config, dataset_of(config))


def test_images_are_not_sequences(make_run, digits):
    config = make_run("run", RECURRENT).config
    with pytest.raises(UserError, match=r"model.name: found 'recurrent' .* which holds images"):
        make_task(config, digits)
