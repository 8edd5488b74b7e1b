"""Max, average or sum pooling, or a stride instead, and what does each do for small shifts?

    python launch.py --experiment=pooling

Cost: laptop (embedded digits, LeNet, four ways to subsample × 10 seeds, each arm at its best of
six learning rates) about 3 minutes on 2 cores. The gpu scale (CIFAR-10) has not been run yet.
Expected: max and average are close, the sum wants a smaller learning rate; a stride alone, which
drops three places of four, keeps fewer predictions when the image moves by one pixel.
"""

from research.config import get_config as defaults

POOLS = ("max", "average", "sum")


def get_config(scale):
    config = defaults()
    config.experiment.baseline = "max"
    config.experiment.panels = ("test/accuracy", "shift_consistency", "test/loss", "train/loss")
    config.experiment.tune.grid = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)
    config.experiment.tune.seeds = 2
    config.model.name = "lenet"
    config.optimizer.schedule.name = "cosine"
    config.optimizer.schedule.warmup = 0.05
    config.train.probes = ("shift",)
    if scale == "laptop":
        config.experiment.seeds = 10
        config.data.name = "digits"
        config.data.image_size = 16  # so that one pixel is a small shift
        config.data.batch_size = 32
        config.train.steps = 300
        config.train.eval_every = 50
        config.train.checkpoint_every = 50
        config.train.log_every = 50
        config.train.tensorboard = False
    elif scale == "gpu":
        config.model.filters = (32, 64)
        config.data.name = "cifar10"
        config.data.batch_size = 128
        config.data.augment = ("flip",)
        config.train.steps = 16_000
        config.train.checkpoint_every = 3520
        config.train.log_every = 88
        config.train.eval_every = 352
    return config


def arms(scale):
    """Return what each arm changes."""
    pools = {pool: {"model.pool": pool} for pool in POOLS}
    return pools | {"stride": {"model.subsample": "stride"}}


scales = ("laptop", "gpu")
