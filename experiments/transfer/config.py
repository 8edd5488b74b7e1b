"""With few examples of new classes, is it better to start from a network that knows others?

    python launch.py --experiment=transfer

Cost: laptop (embedded digits; from all of the classes 0–4 to 10–350 examples of 5–9; a residual
network of 8 layers, 15 arms × 8 seeds, each arm at its best of four learning rates) about 8 minutes
on 2 busy cores. The gpu scale (CIFAR-10, five classes to the other five) has not been run yet.
Expected: a large gain over training from scratch where examples are scarcest, which vanishes as
they grow; frozen features fall behind fine-tuning once there is enough to fine-tune on.
"""

from research.config import get_config as defaults
from research.experiment import cross, levels

SIZES = {"laptop": (10, 20, 50, 100, 350), "gpu": (50, 100, 500, 2_000, 10_000)}
KNOWN = {"init_from": "arm:source", "transfer.replace_head": True}
STARTS = {
    "scratch": {"init_from": "", "transfer.freeze": ()},
    "frozen": KNOWN | {"transfer.freeze": ("*", "!head")},
    "finetuned": KNOWN | {"transfer.freeze": ()},
}


def design(scale):
    """Return the arms that are compared."""
    return cross(levels("data.train_size", *SIZES[scale], prefix="n"), STARTS)


def get_config(scale):
    config = defaults()
    config.experiment.arms = tuple(design(scale))
    config.experiment.baseline = f"n{SIZES[scale][0]}-scratch"
    config.experiment.factors = ("data.train_size", "init_from", "transfer.freeze")
    config.experiment.panels = ("test/accuracy", "train/loss")
    config.experiment.tune.fields = ("optimizer.learning_rate",)
    config.data.classes = (5, 6, 7, 8, 9)
    config.model.name = "resnet"
    config.model.norm = "batch"
    config.optimizer.name = "sgd"
    config.optimizer.schedule.name = "cosine"
    if scale == "laptop":
        config.experiment.seeds = 8
        config.experiment.tune.grid = (0.01, 0.03, 0.1, 0.3)
        config.model.depth = 8
        config.model.width = 8
        config.data.name = "digits"
        config.data.normalize = "symmetric"  # the same whatever the examples
        config.data.batch_size = 10
        config.train.steps = 200
        config.train.eval_every = 50
        config.train.log_every = 50
        config.train.tensorboard = False
    elif scale == "gpu":
        config.experiment.tune.grid = (0.01, 0.03, 0.1, 0.3)
        config.model.depth = 20
        config.data.name = "cifar10"
        config.data.batch_size = 50
        config.data.augment = ("pad_crop", "flip")
        config.optimizer.l2 = 1e-4
        config.train.steps = 8_000
        config.train.eval_every = 400
        config.train.log_every = 100
    return config


def arms(scale):
    """Return what each arm changes: the arm that the others start from first."""
    source = {"data.classes": (0, 1, 2, 3, 4), "optimizer.learning_rate": 0.03}
    return {"source": source} | design(scale)


scales = ("laptop", "gpu")
