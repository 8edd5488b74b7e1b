"""Do depthwise separable convolutions keep the accuracy at a fraction of the cost?

    python launch.py --experiment=separable

Cost: laptop (embedded digits at 32×32 pixels, MobileNet with separable and with full convolutions,
four networks × 5 seeds, each at its best of three learning rates) about 4 minutes on 2 cores. The
gpu scale (CIFAR-10) has not been run yet.
Expected: an eighth of the multiply-adds at the same widths for no loss that this many seeds could
see; a network of full convolutions made as cheap by being narrow does worse.
"""

from research.config import get_config as defaults


def get_config(scale):
    config = defaults()
    config.experiment.baseline = "full"
    config.experiment.panels = ("test/accuracy", "test/loss", "train/loss")
    config.experiment.tune.grid = (0.03, 0.1, 0.3)
    config.model.name = "mobilenet_v1"
    config.optimizer.schedule.name = "cosine"
    config.optimizer.schedule.warmup = 0.05
    if scale == "laptop":
        config.data.name = "digits"
        config.data.image_size = 32
        config.data.batch_size = 32
        config.train.steps = 200
        config.train.eval_every = 50
        config.train.checkpoint_every = 100
        config.train.log_every = 25
        config.train.tensorboard = False
    elif scale == "gpu":
        config.data.name = "cifar10"
        config.data.batch_size = 128
        config.data.augment = ("pad_crop", "flip")
        config.train.steps = 32_000
        config.train.checkpoint_every = 3520
        config.train.log_every = 88
        config.train.eval_every = 352
    return config


def arms(scale):
    """Return what each arm changes: the kind of convolution, and how wide the network is."""
    wide, narrow = (0.25, 0.0625) if scale == "laptop" else (1.0, 0.35)
    return {
        "full": {"model.separable": False, "model.width_multiplier": wide},
        "full_narrow": {"model.separable": False, "model.width_multiplier": narrow},
        "separable": {"model.separable": True, "model.width_multiplier": wide},
        "separable_narrow": {"model.separable": True, "model.width_multiplier": narrow},
    }


scales = ("laptop", "gpu")
