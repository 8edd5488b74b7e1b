"""Does gradient clipping keep a recurrent network from diverging?

    python launch.py --experiment=recurrent_clipping

Cost: laptop (a made series forecast a day ahead from four, an IRNN of 64 units, four kinds of
clipping × four learning rates × 10 seeds) 160 runs in 3 min 11 s on 2 cores.
Expected: without clipping all runs diverge at a learning rate of 0.1 and some at 0.03; clipped, by
global norm above all, none does, and these rates give the best forecasts.
"""

from research.config import get_config as defaults
from research.experiment import cross, levels

LEARNING_RATES = (0.003, 0.01, 0.03, 0.1)
# The thresholds of `gradient_clipping`.
CLIPS = {
    "none": {"optimizer.clip.kind": "none"},
    "value": {"optimizer.clip.kind": "value", "optimizer.clip.threshold": 0.1},
    "global_norm": {"optimizer.clip.kind": "global_norm", "optimizer.clip.threshold": 1.0},
    "adaptive": {"optimizer.clip.kind": "adaptive", "optimizer.clip.threshold": 0.02},
}


def get_config(scale):
    config = defaults()
    config.experiment.baseline = "none-lr0.003"
    config.experiment.factors = ("optimizer.clip.kind", "optimizer.learning_rate")
    config.experiment.panels = ("diverged", "test/loss", "train/loss", "clipped_fraction")
    config.experiment.seeds = 10
    config.data.name = "toy/series"
    config.data.batch_size = 32
    config.model.name = "recurrent"
    config.model.cell = "irnn"  # nothing bounds its state, nor the loss of a forecast
    config.model.hidden_size = 64
    config.optimizer.name = "sgd"
    config.optimizer.schedule.name = "cosine"
    config.train.steps = 200
    config.train.eval_every = 50
    config.train.checkpoint_every = 100
    config.train.log_every = 1  # every step's norm before clipping
    config.train.tensorboard = False
    return config


def arms(scale):
    """Return what each arm changes."""
    return cross(CLIPS, levels("optimizer.learning_rate", *LEARNING_RATES, prefix="lr"))


scales = ("laptop",)
