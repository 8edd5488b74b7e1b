"""Does gradient clipping keep a deep network without normalisation from diverging?

    python launch.py --experiment=gradient_clipping

Cost: laptop (embedded digits, a residual network of 20 layers without a norm, four kinds of
clipping × six learning rates × 10 seeds) about 5 minutes on 2 cores. The gpu scale (CIFAR-10, 56
layers) has not been run yet.
Expected: without clipping most runs diverge at a learning rate of 0.3, and those that do not are
at chance; with clipping by global norm or by unit none diverges, and such rates give the best runs.
"""

from research.config import get_config as defaults
from research.experiment import cross, levels

LEARNING_RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
# Thresholds: one tenth per entry; a norm of 1 (Pascanu et al. 2013); 2 % of a unit's weights
# (Brock et al. 2021, within the range of their table 6).
CLIPS = {
    "none": {"optimizer.clip.kind": "none"},
    "value": {"optimizer.clip.kind": "value", "optimizer.clip.threshold": 0.1},
    "global_norm": {"optimizer.clip.kind": "global_norm", "optimizer.clip.threshold": 1.0},
    "adaptive": {"optimizer.clip.kind": "adaptive", "optimizer.clip.threshold": 0.02},
}


def get_config(scale):
    config = defaults()
    config.experiment.baseline = "none-lr0.001"
    config.experiment.factors = ("optimizer.clip.kind", "optimizer.learning_rate")
    config.experiment.panels = ("diverged", "test/accuracy", "train/loss", "clipped_fraction")
    config.experiment.seeds = 10
    config.model.name = "resnet"
    config.model.norm = "none"
    config.model.skip = "identity"
    config.optimizer.name = "sgd"
    config.optimizer.schedule.name = "cosine"
    if scale == "laptop":
        config.model.depth = 20
        config.model.width = 8
        config.data.name = "digits"
        config.data.batch_size = 32
        config.train.steps = 150
        config.train.eval_every = 25
        config.train.checkpoint_every = 75
        config.train.log_every = 1  # every step's norm before clipping
        config.train.tensorboard = False
    elif scale == "gpu":
        config.model.depth = 56
        config.data.name = "cifar10"
        config.data.batch_size = 128
        config.data.augment = ("pad_crop", "flip")
        config.train.steps = 16_000
        config.train.checkpoint_every = 3520
        config.train.log_every = 8
        config.train.eval_every = 352
        config.experiment.seeds = 5
    return config


def arms(scale):
    """Return what each arm changes."""
    return cross(CLIPS, levels("optimizer.learning_rate", *LEARNING_RATES, prefix="lr"))


scales = ("laptop", "gpu")
