"""Does a skip keep a deep network's gradient alive, before any training?

    python launch.py --experiment=gradient_flow

Cost: laptop (one batch of the embedded digits, networks of 8 and 56 layers with and without batch
norm and skips × 10 seeds, one step each) 80 runs, about 3 minutes on 2 cores, of compiling.
Expected: without a norm next to nothing of the gradient reaches the first layer of 56, and the skip
keeps it alive; with batch norm the plain network's gradient explodes on its way back, by a factor
that is a power of its depth (Yang et al. 2019), and the skip keeps it level.
"""

from research.config import get_config as defaults
from research.experiment import cross, levels


def get_config(scale):
    config = defaults()
    config.experiment.baseline = "none-none-d8"
    config.experiment.factors = ("model.norm", "model.skip", "model.depth")
    config.experiment.panels = ("gradient_first", "gradient_flow", "gradient_spread")
    config.experiment.seeds = 10
    config.model.name = "resnet"
    config.model.width = 8
    config.data.name = "digits"
    config.data.batch_size = 32
    config.train.steps = 1
    config.train.log_every = 1
    config.train.eval_every = 1
    config.train.diagnostics_every = 1
    config.train.tensorboard = False
    return config


def arms(scale):
    """Return what each arm changes."""
    return cross(
        levels("model.norm", "none", "batch"),
        levels("model.skip", "none", "identity"),
        levels("model.depth", 8, 56, prefix="d"),
    )


scales = ("laptop",)
