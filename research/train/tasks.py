"""The task that a config and a dataset make."""

import dataclasses
import functools
import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from research.checks import is_calibrated, is_post_training
from research.config import UserError, unknown
from research.data import augment
from research.data.preprocess import channel_statistics, normalization
from research.data.sources import Dataset
from research.losses import balanced_weights
from research.models import SEQUENCE_MODELS, create_model
from research.tasks.classification import Classification
from research.tasks.domain_adversarial import DomainAdversarial
from research.tasks.handwriting import Handwriting
from research.tasks.heads import HEADS
from research.tasks.language_model import LanguageModel
from research.tasks.sequence import (
    CTC,
    Polyphony,
    SequenceClassification,
    SequenceRegression,
    SequenceTask,
    least_steps,
)
from research.tasks.translation import Translation

# precision -> (dtype of the computation, dtype of the parameters)
PRECISIONS = {
    "float32": (jnp.float32, jnp.float32),
    "bfloat16": (jnp.bfloat16, jnp.float32),
    "float16": (jnp.float16, jnp.float32),
    "float64": (jnp.float64, jnp.float64),
}

MIXTURE = 20  # components of a pen's next offset (Graves 2013, §4.2)

# Name → the task, what the network reads out where the task decides, and what examples need.
SEQUENCE_TASKS = {
    "classification": (SequenceClassification, "", ("label",)),
    "tagging": (SequenceClassification, "steps", ("targets",)),
    "regression": (SequenceRegression, "", ("target",)),
    "forecasting": (SequenceRegression, "", ("targets",)),
    "language_model": (LanguageModel, "steps", ("targets", "start")),
    "polyphony": (Polyphony, "steps", ("targets",)),
    "handwriting": (Handwriting, "steps", ("targets",)),
    "transcription": (CTC, "steps", ("targets", "target_length")),
    "translation": (Translation, "", ("targets", "target_length")),
}

NEXT = ("language_model", "polyphony", "handwriting")  # which tell each step from those before


def make_task(config: ConfigDict, dataset: Dataset) -> Classification | SequenceTask:
    """Return the task that `config` and the dataset's classes and statistics make.

    Raises:
        UserError: a model, a switch, an augmentation or a normalisation that cannot be.
    """
    task = _float_task(config, dataset)
    if config.quantize.kind == "none":
        return task
    from research.compression.quantization import Quantized  # imports qwix, which takes a second

    if is_calibrated(config) and config.model.name == "seq2seq":
        raise UserError(
            f"quantize.calibration: found {config.quantize.calibration!r} with "
            "model.name='seq2seq', whose decoder's activations are out of sight; expected 'none': "
            "weights alone"
        )
    if is_calibrated(config) and getattr(task, "recursive", False):
        raise UserError(
            f"quantize.calibration: found {config.quantize.calibration!r} with "
            "train.recursive=True, whose steps one after another are out of sight; expected "
            "'none': weights alone"
        )
    model = Quantized(task.model, config.quantize.kind, is_calibrated(config))
    return dataclasses.replace(task, model=model)


def _float_task(config: ConfigDict, dataset: Dataset) -> Classification | SequenceTask:
    if "image" not in dataset.train.spec:
        return _sequence_task(config, dataset)
    if config.model.name in SEQUENCE_MODELS:
        raise UserError(
            f"model.name: found {config.model.name!r} with data.name={dataset.name!r}, which holds "
            "images; expected a model of them, such as 'resnet', or a set of sequences"
        )
    return _image_task(config, dataset)


def _image_task(config: ConfigDict, dataset: Dataset) -> Classification:
    augment.check(config.data.augment, dataset.image_shape[-1])
    dtype, param_dtype = _dtypes(config)
    head = HEADS[config.train.head]
    model = create_model(
        config.model.name,
        num_classes=head.outputs(dataset.num_classes),
        dtype=dtype,
        param_dtype=param_dtype,
        **model_switches(config),
    )
    mean, std = normalization(config.data.normalize, dataset.train)
    fill = 0.0  # only an augmentation needs the mean colour, for which a split is read
    if config.data.augment:
        fill = tuple(channel_statistics(dataset.train)[0].tolist())
    make = Classification
    if config.transfer.adapt == "dann":
        if augment.mixes(config.data.augment):
            raise UserError(
                f"data.augment: found {', '.join(config.data.augment)} with transfer.adapt=dann, "
                "expected none that mixes images: it would mix the domains"
            )
        steps = total_steps(config, dataset) * config.train.accumulate
        adversary = config.transfer.adversary
        make = functools.partial(DomainAdversarial, steps=steps, adversary=adversary)
    return make(
        model=model,
        mean=mean,
        std=std,
        num_classes=dataset.num_classes,
        fill=fill,
        augmentations=tuple(config.data.augment),
        label_smoothing=config.train.label_smoothing,
        dtype=dtype,
        head=head,
        class_weights=class_weights(config, dataset),
        freeze=tuple(config.transfer.freeze),
    )


def _sequence_task(config: ConfigDict, dataset: Dataset) -> SequenceTask:
    if config.data.augment:
        raise UserError(
            f"data.augment: found {', '.join(config.data.augment)}, which is of images, with "
            f"data.name={dataset.name!r}, which holds sequences; expected none"
        )
    name = task_name(config, dataset)
    if name not in SEQUENCE_TASKS:
        raise unknown("train.task", name, ("auto", *SEQUENCE_TASKS))
    make, readout, needs = SEQUENCE_TASKS[name]
    spec = dataset.train.spec
    if missing := [each for each in needs if each not in spec]:
        raise UserError(
            f"train.task: found {name!r} with data.name={dataset.name!r}, which has no "
            f"{missing[0]!r}; expected {dataset.task!r}"
        )
    outputs, options = _answers(name, config, dataset)
    models = ("seq2seq",) if name == "translation" else ("recurrent",)
    if name == "forecasting" and not options["recursive"]:
        models += ("linear",)
    if config.model.name not in models:
        raise UserError(
            f"model.name: found {config.model.name!r} for the task {name!r} of data.name="
            f"{dataset.name!r}, expected {' or '.join(map(repr, models))}"
        )
    ahead = name in NEXT or options.get("recursive")
    if ahead and config.model.name == "recurrent" and config.model.bidirectional:
        raise UserError(
            f"model.bidirectional: found True for the task {name!r}, expected False: a network "
            "that also reads from the end has seen what it is to tell"
        )
    if name == "translation":
        switches = {"source_vocabulary": len(dataset.vocabulary), "target_vocabulary": outputs}
    else:
        switches = {"num_classes": outputs}
        if dataset.vocabulary is not None:
            switches["vocabulary_size"] = len(dataset.vocabulary)
        if readout or options.get("recursive"):
            switches["readout"] = "steps"
    dtype, param_dtype = _dtypes(config)
    switches |= {"dtype": dtype, "param_dtype": param_dtype}
    return make(create_model(config.model.name, **model_switches(config) | switches), **options)


def _dtypes(config: ConfigDict) -> tuple[Any, Any]:
    """Return those of the computation and of the parameters."""
    dtype, param_dtype = PRECISIONS[config.train.precision]
    return PRECISIONS.get(config.quantize.kind, (dtype,))[0], param_dtype


def _answers(name: str, config: ConfigDict, dataset: Dataset) -> tuple[int, dict[str, Any]]:
    """Return how many outputs a task's model has, and what the task is made with beside it."""
    spec, head = dataset.train.spec, HEADS[config.train.head]
    smoothing = {"label_smoothing": config.train.label_smoothing}
    match name:
        case "classification":
            classes = dataset.num_classes
            options = {"head": head, "num_classes": classes} | smoothing
            options["class_weights"] = class_weights(config, dataset)
            return head.outputs(classes), options
        case "tagging":
            classes = dataset.num_classes or len(dataset.vocabulary)
            return head.outputs(classes), {"head": head, "num_classes": classes} | smoothing
        case "regression":
            return math.prod(spec["target"][0]), {}
        case "forecasting":
            recursive = config.train.recursive
            horizon, channels = spec["targets"][0]
            return channels if recursive else horizon * channels, {"recursive": recursive}
        case "language_model":
            return len(dataset.vocabulary), {"carried": config.train.carried}
        case "polyphony":
            return spec["targets"][0][-1], {}
        case "handwriting":
            return 6 * MIXTURE + 1, {}
        case "transcription":
            _check_long_enough(dataset)
            return len(dataset.target_vocabulary), {}
        case "translation":
            steps = total_steps(config, dataset) * config.train.accumulate
            options = {"sampling": config.train.sampling, "steps": steps} | smoothing
            return len(dataset.target_vocabulary), options


def _check_long_enough(dataset: Dataset) -> None:
    """Raise a `UserError` for a sequence in which CTC cannot say its transcription."""
    for part in ("train", "validation", "test"):
        arrays = getattr(dataset, part).arrays()
        least = least_steps(arrays["targets"], arrays["target_length"])
        short = np.flatnonzero(arrays["length"] < least)
        if len(short):
            raise UserError(
                f"data.length: example {short[0]} of {part} of data.name={dataset.name!r} has "
                f"{arrays['length'][short[0]]} steps, expected at least {least[short[0]]}, which "
                "train.task=transcription needs for its targets"
            )


def task_name(config: ConfigDict, dataset: Dataset) -> str:
    """Return what the model is trained for, one of `SEQUENCE_TASKS` where it is sequences."""
    return dataset.task if config.train.task == "auto" else config.train.task


def class_weights(config: ConfigDict, dataset: Dataset) -> tuple[float, ...]:
    """Return the weights of the classes in the training loss; () where all are 1."""
    if config.train.class_weights == "none":
        return ()
    return tuple(balanced_weights(dataset.train.labels(), dataset.num_classes).tolist())


def model_switches(config: ConfigDict) -> dict[str, Any]:
    """Return the switches of `config.model` that are set."""
    return {k: v for k, v in config.model.items() if v is not None and k != "name"}


def total_steps(config: ConfigDict, dataset: Dataset) -> int:
    """Return the optimiser steps of a run: `train.steps`, or what `train.epochs` come to."""
    if is_post_training(config):
        return 0
    if config.train.steps:
        return config.train.steps
    return max(1, round(config.train.epochs * len(dataset.train) / config.data.batch_size))
