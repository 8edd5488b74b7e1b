"""What the settings of a run can be, as far as it can be judged without data or devices."""

import math

from ml_collections import ConfigDict

from research.config import UserError, flatten, unknown

CHOICES = {
    "data.feed": ("auto", "resident", "streaming"),
    "data.tokens": ("auto", "char", "word", "bpe"),
    "data.normalize": ("dataset", "mean", "unit", "symmetric", "imagenet"),
    "optimizer.name": ("sgd", "rmsprop", "adam", "adamw"),
    "optimizer.schedule.name": ("constant", "cosine", "step", "linear", "one_cycle"),
    "optimizer.clip.kind": ("none", "value", "global_norm", "adaptive"),
    "train.precision": ("float32", "bfloat16", "float64"),
    "transfer.adapt": ("none", "adabn", "dann", "oracle"),
    "train.head": ("softmax", "sigmoid", "regression"),
    "train.class_weights": ("none", "balanced"),
}

PROBES = ("gap", "shift", "bleu")  # see research/train/probes.py

BELOW_ONE = math.nextafter(1, 0)  # an average that never moves is none

# Field -> (lowest, highest, whether the lowest itself is allowed).
RANGES = {
    "data.batch_size": (1, math.inf, True),
    "data.eval_batch_size": (1, math.inf, True),
    "data.workers": (0, math.inf, True),
    "data.image_size": (0, math.inf, True),
    "data.validation": (0, 1, False),
    "data.test": (0, 1, False),
    "train.sampling": (0, 1, True),
    "train.beams": (1, math.inf, True),
    "train.alpha": (0, math.inf, True),
    "data.imbalance": (0, 1, False),
    "data.train_size": (0, math.inf, True),
    "data.length": (0, math.inf, True),
    "data.horizon": (1, math.inf, True),
    "data.vocabulary_size": (0, math.inf, True),
    "optimizer.learning_rate": (0, math.inf, False),
    "optimizer.momentum": (0, BELOW_ONE, True),
    "optimizer.b1": (0, BELOW_ONE, True),
    "optimizer.b2": (0, BELOW_ONE, True),
    "optimizer.eps": (0, math.inf, False),
    "optimizer.l1": (0, math.inf, True),
    "optimizer.l2": (0, math.inf, True),
    "optimizer.weight_decay": (0, math.inf, True),
    "optimizer.schedule.warmup": (0, 1, True),
    "optimizer.schedule.factor": (0, 1, False),
    "optimizer.clip.threshold": (0, math.inf, False),
    "transfer.unfreeze_every": (0, math.inf, True),
    "transfer.adversary": (0, math.inf, True),
    "train.steps": (0, math.inf, True),
    "train.epochs": (0, math.inf, True),
    "train.accumulate": (1, math.inf, True),
    "train.ema": (0, BELOW_ONE, True),
    "train.label_smoothing": (0, 1, True),
    "train.checkpoint_every": (0, math.inf, True),
    "train.log_every": (1, math.inf, True),
    "train.eval_every": (1, math.inf, True),
    "train.keep": (1, math.inf, True),
    "train.patience": (0, math.inf, True),
    "train.diagnostics_every": (0, math.inf, True),
    "experiment.target_accuracy": (0, 1, False),
    "experiment.tune.seed": (0, math.inf, True),
    "experiment.tune.seeds": (1, math.inf, True),
}


def check_range(field: str, value: float, source: str = "") -> None:
    """Check the value of a field of `RANGES`.

    Raises:
        UserError: naming the field behind `source`, what was found and what is expected.
    """
    low, high, closed = RANGES[field]
    inside = value >= low if closed else value > low
    if not (inside and value <= high and math.isfinite(value)):
        bound = f"{'at least' if closed else 'more than'} {low}"
        upper = "less than 1" if high == BELOW_ONE else f"at most {high}"
        bound += f" and {upper}" if high < math.inf else ""
        raise UserError(f"{source}{field}: found {value!r}, expected {bound}")


def validate(config: ConfigDict, source: str = "--config") -> None:
    """Check every value that can be judged without data or devices.

    Model switches are judged by `create_model`, augmentations by `research.data.augment`.

    Raises:
        UserError: naming `source`, the field, what was found and what is expected.
    """
    flat = flatten(config)
    for field, choices in CHOICES.items():
        if flat[field] not in choices:
            raise unknown(f"{source}: {field}", flat[field], choices)
    for field in RANGES:
        check_range(field, flat[field], f"{source}: ")
    if not (config.train.steps or config.train.epochs):
        raise UserError(f"{source}: train.steps: found 0, expected a number of steps or of epochs")
    for probe in config.train.probes:
        if probe not in PROBES:
            raise unknown(f"{source}: train.probes", probe, PROBES)
    for share in config.optimizer.schedule.boundaries:
        if not isinstance(share, int | float) or not 0 <= share <= 1:
            raise UserError(
                f"{source}: optimizer.schedule.boundaries: found {share!r}, expected shares of the "
                "run, from 0 to 1"
            )
    if config.train.checkpoint_every % config.train.eval_every:
        raise UserError(
            f"{source}: train.checkpoint_every: found {config.train.checkpoint_every}, expected a "
            f"multiple of train.eval_every={config.train.eval_every}, or 0"
        )
    decays = config.optimizer.weight_decay > 0
    if config.optimizer.name in ("adam", "adamw") and decays != (config.optimizer.name == "adamw"):
        raise UserError(
            f"{source}: optimizer.weight_decay: found {config.optimizer.weight_decay} with "
            f"optimizer.name={config.optimizer.name}, expected 0 for adam (its penalty is "
            "optimizer.l2) and more for adamw, which is adam with decoupled decay"
        )
    if config.train.head == "regression" and config.train.label_smoothing:
        raise UserError(
            f"{source}: train.label_smoothing: found {config.train.label_smoothing} with "
            "train.head=regression, expected 0: a number has no share to spread over the classes"
        )
    if config.data.imbalance < 1 and config.data.train_size:
        raise UserError(
            f"{source}: data.train_size: found {config.data.train_size} with "
            f"data.imbalance={config.data.imbalance}, expected 0: it keeps classes even"
        )
    if config.train.head == "regression" and config.train.class_weights != "none":
        raise UserError(
            f"{source}: train.class_weights: found {config.train.class_weights} with "
            "train.head=regression, expected none: a number is of no class"
        )
    if config.transfer.adapt != "none" and not config.transfer.target_domain:
        raise UserError(
            f"{source}: transfer.adapt: found {config.transfer.adapt} without a domain to adapt to,"
            " expected transfer.target_domain, such as 'inverted'"
        )
    for rate in config.transfer.rates:
        match rate:
            case (str(), int() | float() as factor) if 0 < factor < math.inf:
                continue
        raise UserError(
            f"{source}: transfer.rates: found {rate!r}, expected pairs of a pattern and a factor "
            'above 0, such as (("stem*", 0.1), ("head", 10.0))'
        )
    if config.train.devices == 0 or config.train.devices < -1:
        raise UserError(f"{source}: train.devices: found {config.train.devices}, expected -1 or >0")
    if config.data.batch_size % config.train.accumulate:
        raise UserError(
            f"{source}: train.accumulate: found {config.train.accumulate}, expected a divisor of "
            f"data.batch_size={config.data.batch_size}"
        )
