"""Every setting of a run with its default, and errors a person can act on."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

REQUEUE = 75  # EX_TEMPFAIL: the exit status that asks a scheduler for another try


class UserError(Exception):
    """Something the user can mend; `launch.py` prints its one message and exits with status 2."""


class Preempted(Exception):
    """The scheduler takes the machine away; what ran is checkpointed. The status is `REQUEUE`."""


def nearest(found: Any, known: Iterable[Any]) -> str:
    """Return `; did you mean 'x'?` for the closest of `known`, or an empty string."""
    near = difflib.get_close_matches(str(found), [str(k) for k in known], n=1, cutoff=0.4)
    return f"; did you mean {near[0]!r}?" if near else ""


def unknown(what: str, found: Any, known: Iterable[Any]) -> UserError:
    """The error for a name that is not among `known`, with the nearest valid choice.

    Example:
        >>> print(unknown("model.norm", "bach", ["batch", "group"]))
        model.norm: found 'bach', expected one of batch, group; did you mean 'batch'?
    """
    known = [str(k) for k in known]
    named = ", ".join(known[:12]) + (f", … ({len(known)} in all)" if len(known) > 12 else "")
    expected = f"expected one of {named}" if known else "and none is known"
    return UserError(f"{what}: found {found!r}, {expected}{nearest(found, known)}")


def get_config() -> ConfigDict:
    """Return the defaults; an experiment's `get_config(scale)` starts from these.

    A model switch left at `None` takes the model's own default. Lengths are in optimiser steps.
    """
    return ConfigDict(
        {
            # What is asked: the experiment's own settings. They choose runs; none changes one.
            "experiment": {
                "arms": (),  # the arms run by default; () is all of them
                "baseline": "",  # the arm that the others are compared with
                "seeds": 5,
                "panels": ("test/accuracy", "test/loss", "steps_to_accuracy"),
                "factors": (),  # the fields whose values the arms cross; see experiment.cross
                "within": (),  # those at each of whose levels arms are compared separately
                "target_accuracy": 0.95,  # validation accuracy that `steps_to_accuracy` waits for
                "target_loss": 0.0,  # validation loss that `steps_to_loss` waits for
                # Each arm takes the point of `grid` (a value of the one field, or a tuple with a
                # value of each) with the best validation accuracy, on average over `seeds` runs.
                "tune": {
                    "fields": ("optimizer.learning_rate",),
                    "grid": (),
                    "seed": 1000,  # the first of them
                    "seeds": 1,
                },
            },
            "model": {
                "name": "resnet",
                "depth": placeholder(int),
                "width": placeholder(int),
                "width_multiplier": placeholder(float),
                "hidden": placeholder(tuple),
                "filters": placeholder(tuple),
                "subsample": placeholder(str),
                "shared": placeholder(bool),
                "norm": placeholder(str),
                "norm_groups": placeholder(int),
                "activation": placeholder(str),
                "skip": placeholder(str),
                "kernel_init": placeholder(str),
                "pool": placeholder(str),
                "padding": placeholder(str),
                "separable": placeholder(bool),
                "use_bias": placeholder(bool),
                "dropout": placeholder(float),
                "spatial_dropout": placeholder(float),
                "norm_epsilon": placeholder(float),
                "norm_momentum": placeholder(float),
                "aux_heads": placeholder(bool),
                "aux_dropout": placeholder(float),
                # Of recurrent networks, see research/models/rnn/.
                "attention": placeholder(str),
                "input_feeding": placeholder(bool),
                "cell": placeholder(str),
                "hidden_size": placeholder(int),
                "num_layers": placeholder(int),
                "bidirectional": placeholder(bool),
                "embedding_size": placeholder(int),
                "tied": placeholder(bool),
                "readout": placeholder(str),
                "variational": placeholder(bool),
                "input_dropout": placeholder(float),
                "recurrent_dropout": placeholder(float),
                "output_dropout": placeholder(float),
                "layer_norm": placeholder(bool),
                "batch_norm": placeholder(bool),
                "residual": placeholder(bool),
                "peepholes": placeholder(bool),
                "forget_bias": placeholder(float),
                "reset_after": placeholder(bool),
                "input_init": placeholder(str),
                "recurrent_init": placeholder(str),
                "unroll": placeholder(int),
                "remat": placeholder(bool),
            },
            # Start from the weights of a file or of hf:owner/model, or from the best checkpoint of
            # a run: its directory, or "arm:source", the run of arm `source` with the same seed.
            "init_from": "",
            "data": {
                "name": "digits",
                "batch_size": 128,
                "eval_batch_size": 256,
                "feed": "auto",  # resident | streaming | auto: resident when the set fits
                "workers": 0,  # processes that decode for the streaming feed; 0: threads
                "augment": (),  # names, or calls such as "rotate(degrees=15)"; in this order
                "normalize": "dataset",  # dataset | mean | unit | symmetric | imagenet
                "image_size": 0,  # resize to this side; 0: as stored
                "validation": 0.1,  # share of the training split, where the set has none
                "test": 0.2,
                "classes": (),  # those kept in every split, called 0, 1, … in this order; () is all
                "imbalance": 1.0,  # share of its examples that the last class keeps, in every split
                "train_size": 0,  # training examples kept, evenly over the classes; 0: all
                "domain": "original",  # original | inverted | faint | noisy | blurred
                # Of sequences, see research/data/sequences.py.
                "length": 0,  # steps of a chunk, a window or a probe; 0: as the set has it
                "buckets": 1,  # lengths to pad training batches to; above 1, like with like
                "horizon": 24,  # steps ahead that are forecast
                "tokens": "auto",  # char | word | bpe | auto: as the set has it
                "vocabulary_size": 0,  # most tokens kept; 0: as the set has it
            },
            "transfer": {
                "replace_head": False,  # of what `init_from` names: draw the last layer afresh
                "freeze": (),  # patterns, see research/transfer/patterns.py: ("*", "!head")
                "rates": (),  # factors of the learning rate, by pattern: (("stem*", 0.1), …)
                "unfreeze_every": 0,  # steps until the next layer, from the head down; 0: all train
                "target_domain": "",  # another of the data's domains, tested on as `target/…`
                # By that domain's unlabelled images, or by training on it in the first place, as
                # an oracle could: none | adabn | dann | oracle
                "adapt": "none",
                "adversary": 1.0,  # dann: the largest weight of the reversed gradient
            },
            "distill": {
                "teacher": "",  # as init_from names it: "arm:teacher", a run's directory, weights
                "model": "",  # the teacher's, where that is a file of weights
                "temperature": 4.0,  # by which both divide their logits
                "weight": 0.9,  # of the soft targets; the labels have the rest
                # Endpoints, of the student and of the teacher; what a linear layer makes of the
                # first is to be like the second.
                "hint": (),
                "hint_weight": 1.0,
            },
            # Train nothing, but judge finished runs by their mean probabilities.
            "ensemble": {
                "of": "",  # "arm:single": the seeds of that arm,
                "size": 5,  # so many at a time
                "members": (),  # or the directories of these runs
            },
            # See research/compression/quantization.py.
            "quantize": {
                # Of the weights: none | float32 | bfloat16 | float16 | int8 | int4 | binary | xnor
                "kind": "none",
                "when": "after",  # after: `init_from`, without a step | during: training
                # How the ranges are found over which int8 and int4 have activations of eight bits,
                # on training batches as those of evaluation: absmax | percentile | mse; none: as
                # they are.
                "calibration": "absmax",
                "batches": 2,
            },
            "optimizer": {
                "name": "sgd",  # sgd | rmsprop | adam | adamw
                "learning_rate": 0.1,
                "momentum": 0.9,
                "nesterov": False,
                "b1": 0.9,
                "b2": 0.999,
                "eps": 1e-8,
                "l1": 0.0,
                "l2": 0.0,
                "weight_decay": 0.0,  # decoupled: times the learning rate, outside the gradient
                "decay_norm_and_bias": False,
                "schedule": {
                    "name": "constant",  # constant | cosine | step | linear | one_cycle
                    "warmup": 0.0,  # share of the steps; linear from 0
                    "boundaries": (0.5, 0.75),  # step: shares of the steps
                    "factor": 0.1,  # step: multiplied at each boundary
                },
                "clip": {"kind": "none", "threshold": 1.0},  # none|value|global_norm|adaptive
            },
            "train": {
                "steps": 0,
                "epochs": 0.0,  # instead of steps
                "precision": "float32",  # float32 | bfloat16 or float16 (compute only) | float64
                "accumulate": 1,  # micro-batches per step
                "ema": 0.0,  # decay of the averaged weights that are evaluated; 0: off
                "swa": 0.0,  # or all weights alike, over this last share of the steps; 0: off
                "head": "softmax",  # softmax | sigmoid (each class against the rest) | regression
                # Of sequences: what is to be done with them, auto being what the set is for.
                "task": "auto",
                "carried": True,  # a language model goes on in the state that the last chunk left
                "sampling": 0.0,  # a decoder's chance to read its own tokens, at the end
                # The search by which translations are tested (Vaswani et al. 2017, §6.1).
                "beams": 4,  # 1: greedy
                "alpha": 0.6,  # the power of its length penalty (Wu et al. 2016); 0: none
                "recursive": False,  # forecast the next step, again and again, not all at once
                "class_weights": "none",  # none | balanced: all classes weigh the same in the loss
                "label_smoothing": 0.0,
                "log_every": 25,
                "eval_every": 100,  # evaluate on validation
                "checkpoint_every": 0,  # a multiple of eval_every; 0: at every evaluation
                "keep": 2,  # last checkpoints kept, beside the best
                "patience": 0,  # evaluations without improvement before stopping; 0: off
                "probes": (),  # of the best checkpoint, at the end: gap | shift | bleu | footprint
                "diagnostics_every": 0,  # norms and dead units by layer, gradient by time; 0: off
                "mesh": "",  # of devices, such as "data:4,model:2"; "": a run on each of them
                "parallel": "jit",  # jit | shard_map | pmap: how the step is compiled for it
                "batch_statistics": "global",  # of batch norm: global | device, of its own rows
                "replicate": (),  # patterns of large parameters that a mesh may leave whole
                "profile": "",  # steps to trace, such as "10:20"
                "deterministic": False,  # GPU: deterministic kernels, no autotuning
                "tensorboard": True,
                "wandb": False,
            },
        }
    ).lock()  # a misspelt field in an experiment is an error


LENGTHS = ("train.steps", "train.epochs")  # two ways to say one thing


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return `{"model.norm": …}` for a nested config, in its own order.

    Example:
        >>> flatten({"model": {"norm": "batch"}, "steps": 3})
        {'model.norm': 'batch', 'steps': 3}
    """
    flat = {}
    for name, value in config.items():
        if isinstance(value, Mapping | ConfigDict):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested dicts and lists as JSON would give them back (tuples become lists)."""
    return {
        name: plain(value) if isinstance(value, Mapping | ConfigDict) else _as_list(value)
        for name, value in config.items()
    }


def _as_list(value: Any) -> Any:
    return [_as_list(v) for v in value] if isinstance(value, tuple) else value


def override(config: ConfigDict, changes: Mapping[str, Any], source: str) -> ConfigDict:
    """Return a copy of `config` with `changes` (`{"model.norm": "group"}`) applied.

    `train.steps` and `train.epochs` say the same thing twice: setting one clears the other.

    Raises:
        UserError: an unknown field or a value of another type, naming `source`.
    """
    config = config.copy_and_resolve_references()
    known = flatten(config)
    changes = dict(changes)
    lengths = [field for field in LENGTHS if changes.get(field)]
    if len(lengths) == 2:
        raise UserError(f"{source}: found both train.steps and train.epochs, expected one of them")
    if lengths:
        changes = {"train.steps": 0, "train.epochs": 0.0} | changes
    for field, value in changes.items():
        if field not in known:
            raise unknown(f"{source}: field", field, known)
        parent, _, leaf = field.rpartition(".")
        try:
            node = config[parent] if parent else config
            node[leaf] = value
        except (TypeError, ValueError):
            expected = type(known[field]).__name__
            raise UserError(
                f"{source}: {field}: found {value!r} ({type(value).__name__}), expected {expected}"
            ) from None
    return config
