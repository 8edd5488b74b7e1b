"""What the settings of a run can be, as far as it can be judged without data or devices."""

import math

from ml_collections import ConfigDict

from research.config import UserError, flatten, unknown

KINDS = ("float32", "bfloat16", "float16", "int8", "int4", "binary", "xnor")
CALIBRATED = ("int8", "int4")  # kinds that have activations of few bits, too

CHOICES = {
    "data.feed": ("auto", "resident", "streaming"),
    "data.tokens": ("auto", "char", "word", "bpe"),
    "data.normalize": ("dataset", "mean", "unit", "symmetric", "imagenet"),
    "optimizer.name": ("sgd", "rmsprop", "adam", "adamw"),
    "optimizer.schedule.name": ("constant", "cosine", "step", "linear", "one_cycle"),
    "optimizer.clip.kind": ("none", "value", "global_norm", "adaptive"),
    "train.precision": ("float32", "bfloat16", "float16", "float64"),
    "quantize.kind": ("none", *KINDS),
    "quantize.when": ("after", "during"),
    "quantize.calibration": ("none", "absmax", "percentile", "mse"),
    "transfer.adapt": ("none", "adabn", "dann", "oracle"),
    "train.head": ("softmax", "sigmoid", "regression"),
    "train.class_weights": ("none", "balanced"),
    "train.parallel": ("jit", "shard_map", "pmap"),
    "train.batch_statistics": ("global", "device"),
}

PROBES = ("gap", "shift", "bleu", "footprint")  # see research/train/probes.py

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
    "train.beams": (1, 1000, True),
    "train.alpha": (0, math.inf, True),
    "data.imbalance": (0, 1, False),
    "data.train_size": (0, math.inf, True),
    "data.length": (0, math.inf, True),
    "data.horizon": (1, math.inf, True),
    "data.vocabulary_size": (0, math.inf, True),
    "distill.temperature": (0, math.inf, False),
    "distill.weight": (0, 1, True),
    "distill.hint_weight": (0, math.inf, True),
    "ensemble.size": (2, math.inf, True),
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
    "quantize.batches": (1, math.inf, True),
    "transfer.unfreeze_every": (0, math.inf, True),
    "transfer.adversary": (0, math.inf, True),
    "train.steps": (0, math.inf, True),
    "train.epochs": (0, math.inf, True),
    "train.accumulate": (1, math.inf, True),
    "train.ema": (0, BELOW_ONE, True),
    "train.swa": (0, 1, True),
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
    if config.train.swa and config.train.ema:
        raise UserError(
            f"{source}: train.swa: found {config.train.swa} with train.ema={config.train.ema}, "
            "expected one of them to be 0: they are two averages of the weights"
        )
    if config.train.swa and config.transfer.freeze:
        raise UserError(
            f"{source}: train.swa: found {config.train.swa} with transfer.freeze, expected 0: it "
            "takes the statistics of batch norm anew, which frozen ones keep"
        )
    _check_distillation(config, source)
    if (config.ensemble.of or config.ensemble.members) and config.train.head != "softmax":
        raise UserError(
            f"{source}: train.head: found {config.train.head!r} with an ensemble, expected "
            "'softmax': its members' probabilities are averaged"
        )
    for rate in config.transfer.rates:
        match rate:
            case (str(), int() | float() as factor) if 0 < factor < math.inf:
                continue
        raise UserError(
            f"{source}: transfer.rates: found {rate!r}, expected pairs of a pattern and a factor "
            'above 0, such as (("stem*", 0.1), ("head", 10.0))'
        )
    _check_quantization(config, source)
    from research.distributed.mesh import parse_mesh  # imports JAX, which takes a second

    parse_mesh(config.train.mesh)
    if config.train.profile and not _is_range(config.train.profile):
        raise UserError(
            f"{source}: --profile: found {config.train.profile!r}, expected its first and its last "
            "step, such as 10:20"
        )
    if config.train.parallel != "jit" and config.train.diagnostics_every:
        raise UserError(
            f"{source}: train.diagnostics_every: found {config.train.diagnostics_every} with "
            f"--parallel={config.train.parallel}, expected 0, or 'jit', which sees the whole batch"
        )
    if config.data.batch_size % config.train.accumulate:
        raise UserError(
            f"{source}: train.accumulate: found {config.train.accumulate}, expected a divisor of "
            f"data.batch_size={config.data.batch_size}"
        )


def _check_distillation(config: ConfigDict, source: str) -> None:
    distill = config.distill
    if distill.hint and not (
        len(distill.hint) == 2 and all(isinstance(name, str) for name in distill.hint)
    ):
        raise UserError(
            f"{source}: distill.hint: found {distill.hint!r}, expected two endpoints, the "
            "student's and the teacher's, such as ('stage2/block1/act2', 'stage2/block3/act2')"
        )
    if not distill.teacher:
        if distill.hint:
            raise UserError(
                f"{source}: distill.hint: found {distill.hint!r} without a teacher, expected "
                "distill.teacher, such as 'arm:teacher'"
            )
        return
    for field, found, expected in (
        ("train.head", config.train.head, "softmax"),
        ("transfer.adapt", config.transfer.adapt, "none"),
    ):
        if found != expected:
            raise UserError(
                f"{source}: {field}: found {found!r} with distill.teacher={distill.teacher!r}, "
                f"expected {expected!r}"
            )


def _check_quantization(config: ConfigDict, source: str) -> None:
    kind, when = config.quantize.kind, config.quantize.when
    if kind == "none":
        return
    if not config.init_from and (when == "after" or kind in CALIBRATED):
        raise UserError(
            f"{source}: quantize.kind: found {kind} {when} training without init_from, expected "
            "the network to start from: weights, the directory of a run, or 'arm:float'"
        )
    if when == "during" and kind in ("float32", "bfloat16", "float16"):
        raise UserError(
            f"{source}: quantize.when: found during with quantize.kind={kind}, expected after, or "
            f"train.precision={kind}, which trains so"
        )
    for field, found, expected in (
        ("transfer.adapt", config.transfer.adapt, "none"),
        ("distill.teacher", config.distill.teacher, ""),
    ):
        if found != expected:
            raise UserError(
                f"{source}: {field}: found {found!r} with quantize.kind={kind}, expected "
                f"{expected!r}"
            )


def is_calibrated(config: ConfigDict) -> bool:
    """Whether activations are quantised, over ranges that are found on training batches."""
    return config.quantize.kind in CALIBRATED and config.quantize.calibration != "none"


def is_post_training(config: ConfigDict) -> bool:
    """Whether a run takes no step: it quantises what it starts from."""
    return config.quantize.kind != "none" and config.quantize.when == "after"


def _is_range(text: str) -> bool:
    first, _, last = text.partition(":")
    return first.isdigit() and last.isdigit() and 0 < int(first) <= int(last)
