"""Which activation function trains a plain network, at which depth, and how many units die?

    python launch.py --experiment=activations

Cost: laptop (embedded digits, plain networks without skip or norm, three depths × eight activations
× 5 seeds, each arm at its best of five learning rates) about 8 minutes on 2 cores. The gpu scale
(CIFAR-10) has not been run yet.
Expected: sigmoid fails first as depth grows; ReLU leaves dead units, leaky ReLU and ELU none;
without any (linear) the network is a linear classifier at every depth.
"""

from research.config import get_config as defaults
from research.experiment import cross, levels

DEPTHS = {"laptop": (8, 14, 20), "gpu": (8, 20, 32)}
ACTIVATIONS = ("relu", "leaky_relu", "elu", "gelu", "silu", "tanh", "sigmoid", "linear")


def get_config(scale):
    config = defaults()
    config.experiment.baseline = f"d{DEPTHS[scale][0]}-relu"
    config.experiment.factors = ("model.depth", "model.activation")
    config.experiment.panels = ("test/accuracy", "dead_units", "train/loss", "diverged")
    config.experiment.tune.grid = (0.003, 0.01, 0.03, 0.1, 0.3)
    config.model.name = "resnet"
    config.model.norm = "none"
    config.model.skip = "none"
    config.optimizer.schedule.name = "cosine"
    config.optimizer.schedule.warmup = 0.05
    config.optimizer.clip.kind = "global_norm"
    if scale == "laptop":
        config.model.width = 8
        config.data.name = "digits"
        config.data.batch_size = 32
        config.train.steps = 150
        config.train.eval_every = 25
        config.train.checkpoint_every = 75
        config.train.log_every = 25
        config.train.diagnostics_every = 50
        config.train.tensorboard = False
    elif scale == "gpu":
        config.data.name = "cifar10"
        config.data.batch_size = 128
        config.data.augment = ("pad_crop", "flip")
        config.train.steps = 16_000
        config.train.checkpoint_every = 3520
        config.train.log_every = 88
        config.train.eval_every = 352
        config.train.diagnostics_every = 352
    return config


def arms(scale):
    """Return what each arm changes."""
    return cross(
        levels("model.depth", *DEPTHS[scale], prefix="d"),
        levels("model.activation", *ACTIVATIONS),
    )


scales = ("laptop", "gpu")
