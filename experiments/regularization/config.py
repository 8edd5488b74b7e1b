"""What closes the gap between training and test, each remedy alone?

    python launch.py --experiment=regularization

Cost: laptop (100 of the embedded digits, nine remedies and none × 8 seeds, each arm at its best of
three learning rates) about 6 minutes on 2 cores. The gpu scale (CIFAR-10, ResNet-20) has not been
run yet.
Expected: augmentation closes most of the gap; dropout, decay and early stopping each a part of it.
"""

from research.config import get_config as defaults

STEPS = {"laptop": 300, "gpu": 16_000}


def get_config(scale):
    config = defaults()
    config.experiment.baseline = "none"
    config.experiment.panels = ("gap", "test/accuracy", "test/loss", "train_set/accuracy")
    config.experiment.tune.grid = (0.03, 0.1, 0.3)
    config.model.name = "resnet"
    config.optimizer.schedule.name = "cosine"
    config.optimizer.schedule.warmup = 0.05
    config.train.probes = ("gap",)
    config.train.steps = STEPS[scale]
    config.train.checkpoint_every = STEPS[scale]  # what is tested is the end, not the best
    if scale == "laptop":
        config.experiment.seeds = 8
        config.model.depth = 8
        config.data.name = "digits"
        config.data.train_size = 100
        config.data.batch_size = 32
        config.train.eval_every = 25
        config.train.log_every = 25
        config.train.tensorboard = False
    elif scale == "gpu":
        config.model.depth = 20
        config.data.name = "cifar10"
        config.data.train_size = 10_000
        config.data.batch_size = 128
        config.train.log_every = 80
        config.train.eval_every = 400
    return config


def arms(scale):
    """Return what each arm changes."""
    augment = ("rotate(degrees=10)", "translate(fraction=0.0625)")
    if scale == "gpu":
        augment = ("pad_crop", "flip", "color_jitter")
    return {
        "none": {},
        "dropout": {"model.dropout": 0.5},
        "spatial_dropout": {"model.spatial_dropout": 0.2},
        "l2": {"optimizer.l2": 3e-3},
        "l1": {"optimizer.l1": 1e-4},
        "decoupled_decay": {"optimizer.weight_decay": 3e-3},
        "label_smoothing": {"train.label_smoothing": 0.1},
        "augmentation": {"data.augment": augment},
        "early_stopping": {"train.patience": 3, "train.checkpoint_every": 0},
        "narrow": {"model.width": 4},
    }


scales = ("laptop", "gpu")
