"""Does an adaptive optimiser beat stochastic gradient descent, each at its own learning rate?

    python launch.py --experiment=optimizers

Cost: laptop (embedded digits, two networks × six optimisers × 8 seeds, each arm at its best of six
learning rates, judged by two tuning seeds) about 8 minutes on 2 cores. The gpu scale (CIFAR-10,
ResNet-20) has not been run yet.
Expected: momentum and the adaptive optimisers need fewer steps than plain gradient descent, above
all without a norm; once tuned, they end in the same place.
"""

from research.config import get_config as defaults
from research.experiment import cross, levels

OPTIMIZERS = {
    "sgd": {"optimizer.name": "sgd", "optimizer.momentum": 0.0},
    "momentum": {"optimizer.name": "sgd", "optimizer.momentum": 0.9},
    "nesterov": {"optimizer.name": "sgd", "optimizer.nesterov": True},
    "rmsprop": {"optimizer.name": "rmsprop", "optimizer.momentum": 0.0},
    "adam": {"optimizer.name": "adam"},
    "adamw": {"optimizer.name": "adamw", "optimizer.weight_decay": 0.01},
}


def get_config(scale):
    config = defaults()
    config.experiment.baseline = "batch-momentum"
    config.experiment.panels = ("test/accuracy", "steps_to_accuracy", "train/loss")
    config.experiment.tune.seeds = 2
    config.experiment.tune.grid = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
    config.model.name = "resnet"
    config.optimizer.schedule.name = "cosine"
    config.optimizer.schedule.warmup = 0.05
    if scale == "laptop":
        config.experiment.seeds = 8
        config.model.depth = 14
        config.model.width = 8
        config.data.name = "digits"
        config.data.batch_size = 32
        config.train.steps = 150
        config.train.eval_every = 15
        config.train.checkpoint_every = 75
        config.train.log_every = 15
        config.train.tensorboard = False
    elif scale == "gpu":
        config.model.depth = 20
        config.data.name = "cifar10"
        config.data.batch_size = 128
        config.data.augment = ("pad_crop", "flip")
        config.train.steps = 32_000
        config.train.checkpoint_every = 3520
        config.train.log_every = 88
        config.train.eval_every = 352
        config.experiment.target_accuracy = 0.85
    return config


def arms(scale):
    """Return what each arm changes."""
    return cross(levels("model.norm", "batch", "none"), OPTIMIZERS)


scales = ("laptop", "gpu")
