"""At which depths and learning rates does training work at all, with and without norm and skip?

    python launch.py --experiment=depth_lr_map

Cost: laptop (embedded digits, 4 depths × 6 learning rates × 2 norms × 2 skips × 5 seeds) about 11
minutes on 2 cores. The gpu scale (CIFAR-10, 20 to 110 layers) has not been run yet.
Expected: without a norm training works in a corner only, skip or no skip; a norm widens it, and a
norm with a skip fills the map up to a learning rate of 0.1.
"""

from research.config import get_config as defaults
from research.experiment import cross, levels

DEPTHS = {"laptop": (8, 14, 20, 32), "gpu": (20, 32, 56, 110)}
LEARNING_RATES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)


def get_config(scale):
    config = defaults()
    config.experiment.baseline = f"none-none-d{DEPTHS[scale][0]}-lr0.003"
    config.experiment.factors = (
        *("model.norm", "model.skip", "model.depth"),
        "optimizer.learning_rate",
    )
    config.experiment.panels = ("test/accuracy", "train/loss", "diverged")
    config.model.name = "resnet"
    config.optimizer.name = "sgd"
    config.optimizer.schedule.name = "cosine"
    config.optimizer.schedule.warmup = 0.05
    if scale == "laptop":
        config.model.width = 8
        config.data.name = "digits"
        config.data.batch_size = 32
        config.train.steps = 100
        config.train.eval_every = 50
        config.train.log_every = 10
        config.train.tensorboard = False
    elif scale == "gpu":
        config.data.name = "cifar10"
        config.data.batch_size = 128
        config.data.augment = ("pad_crop", "flip")
        config.train.steps = 8_000
        config.train.checkpoint_every = 3520
        config.train.log_every = 32
        config.train.eval_every = 352
    return config


def arms(scale):
    """Return what each arm changes."""
    return cross(
        levels("model.norm", "none", "batch"),
        levels("model.skip", "none", "identity"),
        levels("model.depth", *DEPTHS[scale], prefix="d"),
        levels("optimizer.learning_rate", *LEARNING_RATES, prefix="lr"),
    )


scales = ("laptop", "gpu")
