"""Does layer norm rival batch norm and local response norm where batches are small?

    python launch.py --experiment=small_batches

Cost: laptop (embedded digits, a ResNet-8 of width 8, four norms at batches of 4 and of 32 × 8
seeds, each arm at its best of three learning rates) 88 runs, about 4 minutes on 2 cores.
Expected: batch norm leads at 32 and falls behind layer norm at 4, where its statistics are of four
images; local response norm, which knows no batch, is behind both.
"""

from research.config import get_config as defaults
from research.experiment import cross, levels

NORMS = ("layer", "batch", "local_response", "none")


def get_config(scale):
    config = defaults()
    config.experiment.baseline = "layer-b32"
    config.experiment.factors = ("model.norm", "data.batch_size")
    config.experiment.panels = ("test/accuracy", "gap", "test/loss", "train/loss")
    config.experiment.tune.grid = (0.01, 0.03, 0.1)
    config.experiment.seeds = 8
    config.model.name = "resnet"
    config.model.depth = 8
    config.model.width = 8
    config.data.name = "digits"
    config.optimizer.schedule.name = "cosine"
    config.optimizer.schedule.warmup = 0.05
    config.train.probes = ("gap",)
    config.train.epochs = 3.0  # as many images at either batch size
    config.train.eval_every = 100
    config.train.tensorboard = False
    return config


def arms(scale):
    """Return what each arm changes."""
    return cross(levels("model.norm", *NORMS), levels("data.batch_size", 4, 32, prefix="b"))


scales = ("laptop",)
