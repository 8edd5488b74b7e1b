"""Does initialisation decide whether a deep network trains at all?

    python launch.py --experiment=initialization

Cost: laptop (embedded digits, plain and residual networks without a norm, three depths × six
initialisers × 5 seeds, each arm at its best of four learning rates) about 7 minutes on 2 cores. The
gpu scale (CIFAR-10) has not been run yet.
Expected: zeros never learn; small fixed normals fail from a depth on; He's keep deeper ReLU
networks alive than Glorot's and LeCun's; skip connections forgive most of it.
"""

from research.config import get_config as defaults
from research.experiment import cross, levels

DEPTHS = {"laptop": (8, 14, 26), "gpu": (8, 20, 56)}
INITS = ("he", "orthogonal", "glorot", "lecun", "normal", "zeros")


def get_config(scale):
    config = defaults()
    config.experiment.baseline = f"none-d{DEPTHS[scale][0]}-he"
    config.experiment.factors = ("model.skip", "model.depth", "model.kernel_init")
    config.experiment.panels = ("test/accuracy", "train/loss", "steps_to_accuracy")
    config.experiment.tune.grid = (0.003, 0.01, 0.03, 0.1)
    config.model.name = "resnet"
    config.model.norm = "none"  # which would undo most of the scale that is asked about
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
        config.train.diagnostics_every = 75
        config.train.tensorboard = False
        config.experiment.target_accuracy = 0.9
    elif scale == "gpu":
        config.data.name = "cifar10"
        config.data.batch_size = 128
        config.data.augment = ("pad_crop", "flip")
        config.train.steps = 16_000
        config.train.checkpoint_every = 3520
        config.train.log_every = 88
        config.train.eval_every = 352
        config.train.diagnostics_every = 352
        config.experiment.target_accuracy = 0.8
    return config


def arms(scale):
    """Return what each arm changes."""
    return cross(
        levels("model.skip", "none", "identity"),
        levels("model.depth", *DEPTHS[scale], prefix="d"),
        levels("model.kernel_init", *INITS),
    )


scales = ("laptop", "gpu")
