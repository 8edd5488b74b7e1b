"""What does a skip connection buy, at which depth?

    python launch.py --experiment=skip_connections

Cost: laptop (embedded digits, plain and residual networks of 8 to 56 layers, 16 arms × 5 seeds,
each arm at its best of eight pairs of learning rate and warm-up, judged by two tuning seeds) about
20 minutes on 2 cores. The gpu scale (CIFAR-10 at 20, 56 and 110 layers, the recipe of He et al.
2015) has not been run yet.
Expected: no difference at 8 layers; the plain network degrades from 20 layers on and hardly trains
at 56, where a network with skips is still as good as a shallow one.
"""

import itertools

from research.config import get_config as defaults
from research.experiment import cross, levels

DEPTHS = {"laptop": (8, 20, 32, 56), "gpu": (20, 56, 110)}
SKIPS = ("none", "identity", "zero_init", "projection")


def get_config(scale):
    config = defaults()
    config.experiment.baseline = f"d{DEPTHS[scale][0]}-none"
    config.experiment.factors = ("model.depth", "model.skip")
    config.experiment.panels = ("test/accuracy", "train/loss", "steps_to_accuracy")
    config.experiment.tune.fields = ("optimizer.learning_rate", "optimizer.schedule.warmup")
    config.model.name = "resnet"
    config.model.norm = "batch"
    config.optimizer.name = "sgd"
    if scale == "laptop":
        config.experiment.tune.grid = tuple(itertools.product((0.003, 0.01, 0.03, 0.1), (0.0, 0.1)))
        config.experiment.tune.seeds = 2
        config.model.width = 8
        config.optimizer.schedule.name = "cosine"
        config.data.name = "digits"
        config.data.batch_size = 32
        config.train.steps = 200
        config.train.eval_every = 25
        config.train.checkpoint_every = 100
        config.train.log_every = 25
        config.train.diagnostics_every = 100  # start, middle and end
        config.train.tensorboard = False
    elif scale == "gpu":
        config.experiment.tune.grid = tuple(itertools.product((0.03, 0.1), (0.0, 0.01)))
        config.data.name = "cifar10"
        config.data.batch_size = 128
        config.data.augment = ("pad_crop", "flip")
        # He et al. 2015, §4.2
        config.optimizer.l2 = 1e-4
        config.optimizer.decay_norm_and_bias = True
        config.optimizer.schedule.name = "step"
        config.train.steps = 64_000
        config.train.checkpoint_every = 3520
        config.train.log_every = 88
        config.train.eval_every = 352  # an epoch: 45,000 of the 50,000 images train
        config.train.diagnostics_every = 3200
        config.experiment.target_accuracy = 0.85
    return config


def arms(scale):
    """Return what each arm changes."""
    return cross(levels("model.depth", *DEPTHS[scale], prefix="d"), levels("model.skip", *SKIPS))


scales = ("laptop", "gpu")
