"""What does padding buy, and does it matter what is padded with?

    python launch.py --experiment=padding

Cost: laptop (embedded digits at 28×28 pixels, a plain network of 8 layers, five paddings × 8 seeds,
each arm at its best of three learning rates) about 5 minutes on 2 cores. The gpu scale (CIFAR-10)
has not been run yet.
Expected: without padding the border is seen by fewer windows and the maps shrink to one pixel,
which costs some accuracy; what is padded with matters less.
"""

from research.config import get_config as defaults
from research.experiment import levels

PADDINGS = ("same", "valid", "reflect", "circular", "same_upper")


def get_config(scale):
    config = defaults()
    config.experiment.baseline = "same"
    config.experiment.panels = ("test/accuracy", "test/loss", "shift_consistency", "train/loss")
    config.experiment.tune.grid = (0.03, 0.1, 0.3)
    config.model.name = "resnet"
    config.model.skip = "none"  # a skip could not be added to maps that shrink
    config.model.depth = 8
    config.optimizer.schedule.name = "cosine"
    config.optimizer.schedule.warmup = 0.05
    config.train.probes = ("shift",)
    if scale == "laptop":
        config.experiment.seeds = 8
        config.model.width = 8
        config.data.name = "digits"
        config.data.image_size = 28  # unpadded, the last map is of 1×1
        config.data.batch_size = 32
        config.train.steps = 150
        config.train.eval_every = 25
        config.train.checkpoint_every = 75
        config.train.log_every = 25
        config.train.tensorboard = False
    elif scale == "gpu":
        config.data.name = "cifar10"
        config.data.image_size = 32
        config.data.batch_size = 128
        config.data.augment = ("pad_crop", "flip")
        config.train.steps = 16_000
        config.train.checkpoint_every = 3520
        config.train.log_every = 88
        config.train.eval_every = 352
    return config


def arms(scale):
    """Return what each arm changes."""
    return levels("model.padding", *PADDINGS)


scales = ("laptop", "gpu")
