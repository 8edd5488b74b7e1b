"""How far back must a language model's gradient reach, and does a carried state make up for it?

    python launch.py --experiment=truncation

Cost: laptop (nine thousand embedded characters, a GRU of 64 units, chunks of 5, 20 and 80
characters, the state carried from chunk to chunk or not × 5 seeds, each arm at its better of two
learning rates) 42 runs in 4 min 43 s on one core of 2.
Expected: without a carried state the loss falls with the chunk's length; with it most of that is
gone: the state tells what came before, though no gradient taught it to be kept.
"""

from research.config import get_config as defaults
from research.experiment import cross, levels


def get_config(scale):
    config = defaults()
    config.experiment.baseline = "carried-chunk5"
    config.experiment.factors = ("train.carried", "data.length")
    config.experiment.panels = ("test/bits", "test/loss", "train/loss", "utilization/temporary_mb")
    config.experiment.tune.grid = (0.001, 0.003)
    config.data.name = "toy/text"
    config.data.batch_size = 8
    config.model.name = "recurrent"
    config.model.cell = "gru"
    config.model.hidden_size = 64
    config.optimizer.name = "adam"
    config.optimizer.clip.kind = "global_norm"
    config.optimizer.clip.threshold = 1.0
    config.train.steps = 1500
    config.train.eval_every = 100
    config.train.checkpoint_every = 100
    config.train.log_every = 100
    config.train.tensorboard = False
    return config


def arms(scale):
    """Return what each arm changes."""
    states = {"carried": {"train.carried": True}, "anew": {"train.carried": False}}
    return cross(states, levels("data.length", 5, 20, 80, prefix="chunk"))


scales = ("laptop",)
