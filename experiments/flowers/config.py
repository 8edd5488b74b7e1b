"""Does a network that knows CIFAR-10 learn flowers from fewer photographs?

    python launch.py --experiment=flowers --scale=gpu --data_dir=$TFDS_DATA_DIR

`$TFDS_DATA_DIR` holds the prepared `cifar10` and a folder `flowers128` of photographs, a directory
per class.

Cost: gpu (a residual network of 8 layers, its source trained for 1.4 epochs of CIFAR-10, 9 arms × 3
seeds on 50 to 1,000 photographs of 32×32 pixels, each arm at the better of two learning rates) was
made small enough for 2 CPU cores: 48 runs in 31 minutes when they were busy with other work, of
which 14 minutes of processor time.
Expected: a gain over training from scratch at every size, smaller with more photographs; frozen
features the best of 50 photographs and overtaken by fine-tuning at 1,000.
"""

from research.config import get_config as defaults
from research.experiment import cross, levels

KNOWN = {"init_from": "arm:source", "transfer.replace_head": True}
STARTS = {
    "scratch": {"init_from": "", "transfer.freeze": ()},
    "frozen": KNOWN | {"transfer.freeze": ("*", "!head")},
    "finetuned": KNOWN | {"transfer.freeze": ()},
}
DESIGN = cross(levels("data.train_size", 50, 200, 1_000, prefix="n"), STARTS)


def get_config(scale):
    config = defaults()
    config.experiment.arms = tuple(DESIGN)
    config.experiment.baseline = "n50-scratch"
    config.experiment.factors = ("data.train_size", "init_from", "transfer.freeze")
    config.experiment.panels = ("test/accuracy", "train/loss")
    config.experiment.seeds = 3
    config.experiment.tune.fields = ("optimizer.learning_rate",)
    config.experiment.tune.grid = (0.02, 0.1)
    config.model.name = "resnet"
    config.model.depth = 8
    config.model.width = 16
    config.model.norm = "batch"
    config.data.name = "folder/flowers128"
    config.data.image_size = 32
    config.data.normalize = "imagenet"  # the same for CIFAR-10 and for flowers
    config.data.batch_size = 32
    config.data.augment = ("pad_crop", "flip")
    config.optimizer.name = "sgd"
    config.optimizer.l2 = 1e-4
    config.optimizer.schedule.name = "cosine"
    config.optimizer.schedule.warmup = 0.1
    config.train.steps = 150
    config.train.eval_every = 50
    config.train.log_every = 50
    config.train.tensorboard = False
    return config


def arms(scale):
    """Return what each arm changes: the arm that the others start from first."""
    source = {
        "data.name": "cifar10",
        "train.steps": 2_000,
        "train.eval_every": 500,
        "optimizer.learning_rate": 0.05,
    }
    return {"source": source} | DESIGN


scales = ("gpu",)
