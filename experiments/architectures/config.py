"""Thirty years of architectures on one dataset: what do accuracy, size and cost have in common?

    python launch.py --experiment=architectures

Cost: laptop (embedded digits at 32×32 pixels, seven networks × 5 seeds, each at its best of three
learning rates) about 12 minutes on 2 cores. The gpu scale (CIFAR-10) has not been run yet.
Expected: on so small a task all that train end within a few points of each other, over a factor of
thousands in multiply-adds; the residual ones train best without attention.
"""

from research.config import get_config as defaults

NARROW = {"model.width": 16, "model.dropout": 0.0}  # a quarter, and too few units to drop any
HIDDEN = {"model.hidden": (256, 256)}  # for the papers' 4096, which no digit needs


def get_config(scale):
    config = defaults()
    config.experiment.baseline = "resnet20"
    config.experiment.panels = ("test/accuracy", "test/loss", "steps_to_accuracy")
    config.optimizer.schedule.name = "cosine"
    config.optimizer.schedule.warmup = 0.1
    if scale == "laptop":
        config.experiment.tune.grid = (0.003, 0.01, 0.03)
        config.data.name = "digits"
        config.data.image_size = 32
        config.data.batch_size = 32
        config.train.steps = 150
        config.train.eval_every = 50
        config.train.checkpoint_every = 50
        config.train.log_every = 10
        config.train.tensorboard = False
    elif scale == "gpu":
        config.experiment.tune.grid = (0.01, 0.03, 0.1)
        config.data.name = "cifar10"
        config.data.image_size = 96
        config.data.batch_size = 128
        config.data.augment = ("pad_crop", "flip")
        config.optimizer.weight_decay = 5e-4
        config.train.steps = 32_000
        config.train.checkpoint_every = 3520
        config.train.log_every = 88
        config.train.eval_every = 352
        config.experiment.target_accuracy = 0.85
    return config


def arms(scale):
    """Return what each arm changes."""
    width = 0.25 if scale == "laptop" else 1.0  # XLA is slow on a CPU at depthwise convolutions
    small = {
        "mlp": {"model.name": "mlp"},
        "lenet": {"model.name": "lenet"},
        "vgg11_bn": {"model.name": "vgg11_bn"} | HIDDEN | (NARROW if scale == "laptop" else {}),
        "googlenet": {"model.name": "googlenet"},
        "resnet20": {"model.name": "resnet20"},
        "mobilenet_v1": {"model.name": "mobilenet_v1", "model.width_multiplier": width},
        "mobilenet_v2": {"model.name": "mobilenet_v2", "model.width_multiplier": width},
    }
    if scale == "laptop":
        return small
    large = {
        name: {"model.name": name} for name in ("inception_v4", "xception", "resnet18", "resnet50")
    }
    large["alexnet"] = {"model.name": "alexnet"} | HIDDEN
    # Its auxiliary classifier needs images of 299 pixels.
    large["inception_v3"] = {"model.name": "inception_v3", "model.aux_heads": False}
    return small | large


scales = ("laptop", "gpu")
