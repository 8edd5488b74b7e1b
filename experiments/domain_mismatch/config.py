"""What does it cost to be tested on images unlike those trained on, and what wins it back?

    python launch.py --experiment=domain_mismatch

Cost: laptop (embedded digits, trained on the originals and tested on faint, blurred, noisy and
inverted ones; a residual network of 8 layers, 16 arms × 10 seeds at one learning rate) about 10
minutes on 2 busy cores. The gpu scale (CIFAR-10) has not been run yet.
Expected: new statistics in batch norm (AdaBN) undo a change of contrast and part of any other; a
domain-adversarial network (DANN) helps where they do not; neither reaches a network that was
trained on the target's labels.
"""

from research.config import get_config as defaults
from research.experiment import cross, levels

DOMAINS = ("faint", "blurred", "noisy", "inverted")
METHODS = ("none", "adabn", "dann", "oracle")


def get_config(scale):
    config = defaults()
    config.experiment.baseline = "faint-none"
    config.experiment.factors = ("transfer.target_domain", "transfer.adapt")
    config.experiment.within = ("transfer.target_domain",)
    config.experiment.panels = ("target/accuracy", "test/accuracy")
    config.model.name = "resnet"
    config.model.norm = "batch"
    config.transfer.adversary = 0.1  # at 1 the reversed gradient also undoes the classes
    config.optimizer.name = "sgd"
    config.optimizer.schedule.name = "cosine"
    if scale == "laptop":
        config.experiment.seeds = 10
        config.model.depth = 8
        config.model.width = 8
        config.data.name = "digits"
        config.data.normalize = "symmetric"  # the same whatever the domain
        config.data.batch_size = 32
        config.optimizer.learning_rate = 0.03
        config.train.steps = 200
        config.train.eval_every = 50
        config.train.log_every = 50
        config.train.tensorboard = False
    elif scale == "gpu":
        config.model.depth = 20
        config.data.name = "cifar10"
        config.data.batch_size = 128
        config.data.augment = ("pad_crop", "flip")
        config.optimizer.l2 = 1e-4
        config.train.steps = 16_000
        config.train.eval_every = 352
        config.train.log_every = 88
    return config


def arms(scale):
    """Return what each arm changes."""
    targets = levels("transfer.target_domain", *DOMAINS)
    return cross(targets, levels("transfer.adapt", *METHODS))


scales = ("laptop", "gpu")
