"""What do several networks, or several moments of one, know that a single network does not?

    python launch.py --experiment=ensembles

Cost: laptop (200 embedded digits, two hidden layers of 64 units with batch norm; four ways to train
× 30 seeds, each at its best of four learning rates, and six ensembles of five) 10 minutes
on 2 busy cores. The gpu scale (CIFAR-10, ResNet-20) has not been run yet.
Expected: an ensemble is more accurate than its members and knows better how sure it can be;
averaged weights make up for a learning rate that does not fall.
"""

from research.config import get_config as defaults


def get_config(scale):
    config = defaults()
    config.experiment.baseline = "single"
    config.experiment.panels = ("test/accuracy", "test/loss", "test/ece")
    config.model.norm = "batch"
    config.optimizer.schedule.name = "cosine"
    if scale == "laptop":
        config.experiment.seeds = 30
        config.experiment.tune.grid = (0.01, 0.03, 0.1, 0.3)
        config.experiment.tune.seeds = 2
        config.model.name = "mlp"
        config.model.hidden = (64, 64)
        config.data.name = "digits"
        config.data.train_size = 200
        config.data.batch_size = 20
        config.train.steps = 400
        config.train.eval_every = 200
        config.train.log_every = 100
        config.train.tensorboard = False
    elif scale == "gpu":
        config.experiment.seeds = 20
        config.experiment.tune.grid = (0.03, 0.1, 0.3)
        config.model.name = "resnet"
        config.model.depth = 20
        config.data.name = "cifar10"
        config.data.batch_size = 128
        config.data.augment = ("pad_crop", "flip")
        config.optimizer.l2 = 1e-4
        config.train.steps = 31_200
        config.train.eval_every = 1560
        config.train.log_every = 312
    return config


def arms(scale):
    """Return what each arm changes: weights are averaged where the learning rate stays."""
    constant = {"optimizer.schedule.name": "constant"}
    return {
        "single": {},
        "ensemble": {"ensemble.of": "arm:single", "ensemble.size": 5},
        "constant": constant,
        "ema": constant | {"train.ema": {"laptop": 0.98, "gpu": 0.999}[scale]},
        "swa": constant | {"train.swa": 0.25},
    }


scales = ("laptop", "gpu")
