"""How do normalisation, skip connections and gradient clipping interact?

    python launch.py --experiment=factorial

Cost: laptop (embedded digits, 32 layers, 3 norms × 2 skips × 2 clippings × 8 seeds, each arm at its
best of seven learning rates, judged by three tuning seeds) about 16 minutes on 2 cores. The gpu
scale (CIFAR-10, 56 layers) has not been run yet.
Expected: a skip needs either a norm or clipping to train at this depth, and with one of them the
other adds little: a large negative interaction of all three.

On request, by `--arms`: the other norms, skips and clippings, 6 × 4 × 4 in all (`'layer-*'`).
"""

from experiments.gradient_clipping.config import CLIPS
from research.config import get_config as defaults
from research.experiment import cross, levels
from research.models.norms import NORMS

SKIPS = ("none", "identity", "zero_init", "projection")


def design(norms, skips, clips):
    """Return the arms that cross these levels."""
    clips = {name: CLIPS[name] for name in clips}
    return cross(levels("model.norm", *norms), levels("model.skip", *skips), clips)


def get_config(scale):
    config = defaults()
    config.experiment.arms = tuple(
        design(("none", "batch", "group"), ("none", "identity"), ("none", "global_norm"))
    )
    config.experiment.baseline = "none-none-none"
    config.experiment.factors = ("model.norm", "model.skip", "optimizer.clip.kind")
    config.experiment.panels = ("test/accuracy", "train/loss", "diverged")
    config.experiment.tune.grid = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
    config.experiment.tune.seeds = 3
    config.experiment.seeds = 8
    config.model.name = "resnet"
    config.optimizer.name = "sgd"
    config.optimizer.schedule.name = "cosine"
    config.optimizer.schedule.warmup = 0.05
    if scale == "laptop":
        config.model.depth = 32
        config.model.width = 8
        config.data.name = "digits"
        config.data.batch_size = 32
        config.train.steps = 200
        config.train.eval_every = 25
        config.train.checkpoint_every = 100
        config.train.log_every = 5
        config.train.diagnostics_every = 100
        config.train.tensorboard = False
    elif scale == "gpu":
        config.experiment.seeds = 5
        config.experiment.tune.seeds = 1
        config.model.depth = 56
        config.data.name = "cifar10"
        config.data.batch_size = 128
        config.data.augment = ("pad_crop", "flip")
        config.optimizer.l2 = 1e-4
        config.train.steps = 32_000
        config.train.checkpoint_every = 3520
        config.train.log_every = 32
        config.train.eval_every = 352
        config.train.diagnostics_every = 3200
    return config


def arms(scale):
    """Return what each arm changes: the default design first, then what is run on request."""
    small = design(("none", "batch", "group"), ("none", "identity"), ("none", "global_norm"))
    return small | design(NORMS, SKIPS, CLIPS)


scales = ("laptop", "gpu")
