"""How does accuracy mislead when classes are rare, and what do balanced weights change?

    python launch.py --experiment=imbalance

Cost: laptop (embedded digits with a long tail, four degrees of imbalance × two weightings × 8
seeds, each arm at its best of three learning rates) about 4 minutes on 2 cores. The gpu scale
(CIFAR-10 with a long tail) has not been run yet.
Expected: as the tail grows thinner accuracy hardly moves, while balanced accuracy and F1, which
count every class alike, fall; weights that make up for the counts win some of it back.
"""

from research.config import get_config as defaults
from research.experiment import cross, levels

SHARES = {"laptop": (1.0, 0.2, 0.1, 0.05), "gpu": (1.0, 0.1, 0.02, 0.01)}


def get_config(scale):
    config = defaults()
    config.experiment.baseline = "none-share1.0"
    config.experiment.factors = ("train.class_weights", "data.imbalance")
    config.experiment.panels = (
        *("test/accuracy", "test/balanced_accuracy", "test/f1", "test/auc"),
    )
    config.experiment.tune.grid = (0.03, 0.1, 0.3)
    config.model.name = "resnet"
    config.optimizer.schedule.name = "cosine"
    config.optimizer.schedule.warmup = 0.05
    if scale == "laptop":
        config.experiment.seeds = 8
        config.model.depth = 8
        config.model.width = 8
        config.data.name = "digits"
        config.data.test = 0.5  # of a class in the tail a few must be left to test on
        config.data.batch_size = 32
        config.train.steps = 200
        config.train.eval_every = 25
        config.train.checkpoint_every = 100
        config.train.log_every = 25
        config.train.tensorboard = False
    elif scale == "gpu":
        config.model.depth = 20
        config.data.name = "cifar10"
        config.data.batch_size = 128
        config.data.augment = ("pad_crop", "flip")
        config.train.steps = 16_000
        config.train.checkpoint_every = 3520
        config.train.log_every = 88
        config.train.eval_every = 352
    return config


def arms(scale):
    """Return what each arm changes."""
    return cross(
        levels("train.class_weights", "none", "balanced"),
        levels("data.imbalance", *SHARES[scale], prefix="share"),
    )


scales = ("laptop", "gpu")
