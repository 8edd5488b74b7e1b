"""Does convolution beat a fully connected network of as many parameters, and is it the sharing?

    python launch.py --experiment=dense_vs_conv

Cost: laptop (embedded digits, three networks of 18,000 parameters × three numbers of training
images × 8 seeds, each arm at its best of four learning rates) about 5 minutes on 2 cores. The gpu
scale (CIFAR-10) has not been run yet.
Expected: convolution needs the fewest images; local connections without shared weights lie between
it and the fully connected network, or below both, for at equal size they afford fewer maps.
"""

from research.config import get_config as defaults
from research.experiment import cross, levels

# Maps and widths at which all three have 18,000 parameters on 8×8×1, and 580,000 on 32×32×3.
SIZES = {
    "laptop": {"mlp": (240,), "local": (4, 7), "conv": (16, 40), "shares": (100, 300, 1200)},
    "gpu": {"mlp": (188,), "local": (4, 18), "conv": (64, 288), "shares": (500, 1000, 45_000)},
}


def get_config(scale):
    config = defaults()
    config.experiment.baseline = f"dense-n{SIZES[scale]['shares'][0]}"
    config.experiment.factors = ("model.name", "data.train_size")
    config.experiment.panels = ("test/accuracy", "gap", "shift_consistency")
    config.experiment.tune.grid = (0.003, 0.01, 0.03, 0.1)
    config.optimizer.schedule.name = "cosine"
    config.optimizer.schedule.warmup = 0.05
    config.train.probes = ("gap", "shift")
    if scale == "laptop":
        config.experiment.seeds = 8
        config.data.name = "digits"
        config.data.batch_size = 32
        config.train.steps = 300
        config.train.eval_every = 50
        config.train.checkpoint_every = 50
        config.train.log_every = 50
        config.train.tensorboard = False
    elif scale == "gpu":
        config.data.name = "cifar10"
        config.data.batch_size = 128
        config.train.steps = 16_000
        config.train.checkpoint_every = 3520
        config.train.log_every = 88
        config.train.eval_every = 352
    return config


def arms(scale):
    """Return what each arm changes."""
    size = SIZES[scale]
    networks = {
        "dense": {"model.name": "mlp", "model.hidden": size["mlp"]},
        "local": network("locally_connected", size["local"]),
        "conv": network("lenet", size["conv"]),
    }
    return cross(networks, levels("data.train_size", *size["shares"], prefix="n"))


def network(name, filters):
    """Return a network of two layers of `filters` maps with nothing but the output after them."""
    return {"model.name": name, "model.filters": filters, "model.hidden": ()}


scales = ("laptop", "gpu")
