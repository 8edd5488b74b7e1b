"""Which normalisation trains a small residual network best, and does batch norm have a rival?

    python launch.py --experiment=normalization

Cost: laptop (embedded digits, ResNet-8, six norms × 5 seeds, each at its best of four learning
rates) 2 to 4 minutes on 2 cores. The gpu scale (CIFAR-10, ResNet-20, the recipe of He et al. 2015)
is 54 runs of 64,000 steps and has not been run yet.
Expected: every norm learns digits to about 97 % or more; batch norm gets there in the fewest steps.

On request, by `--arms`: the batch sizes at which each norm still works (`batch_b2`, `'*_b*'`) and
the learning rates that it tolerates (`batch_lr1`, `'*_lr*'`).
"""

from research.config import get_config as defaults

NORMS = ("none", "batch", "layer", "group", "instance", "local_response")
BATCH_SIZES = (256, 64, 16, 8, 4, 2)
LEARNING_RATES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)


def get_config(scale):
    config = defaults()
    config.experiment.baseline = "batch"
    config.experiment.arms = NORMS
    config.experiment.tune.grid = (0.01, 0.03, 0.1, 0.3)
    config.model.name = "resnet"
    config.optimizer.name = "sgd"
    if scale == "laptop":
        config.optimizer.schedule.name = "cosine"
        config.optimizer.schedule.warmup = 0.05
        config.model.depth = 8
        config.data.name = "digits"
        config.data.batch_size = 32
        config.train.steps = 250
        config.train.eval_every = 25
        config.train.checkpoint_every = 50
        config.train.log_every = 25
        config.train.diagnostics_every = 50
    elif scale == "gpu":
        config.model.depth = 20
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
        config.train.diagnostics_every = 352
        config.experiment.target_accuracy = 0.85
    return config


def arms(scale):
    """Return what each arm changes."""
    norms = {norm: {"model.norm": norm} for norm in NORMS}
    sizes = {
        f"{norm}_b{size}": change | batch_size(size, scale)
        for norm, change in norms.items()
        for size in BATCH_SIZES
    }
    rates = {
        f"{norm}_lr{rate:g}": change | {"optimizer.learning_rate": rate}
        for norm, change in norms.items()
        for rate in LEARNING_RATES
    }
    return norms | sizes | rates


def batch_size(size, scale):
    """Return a batch size at which as many images are seen as at any other."""
    epoch = 800 if scale == "laptop" else 45_000  # images between evaluations
    every = {"train.eval_every": max(1, epoch // size), "train.log_every": max(1, epoch // size)}
    length = {"train.steps": (8000 if scale == "laptop" else 8_192_000) // size}
    return {"data.batch_size": size, "train.checkpoint_every": 0} | length | every


scales = ("laptop", "gpu")
