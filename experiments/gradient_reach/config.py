"""How much of the gradient reaches a recurrent network's first state, before any training?

    python launch.py --experiment=gradient_reach

Cost: laptop (one batch of the embedded digits pixel by pixel, in 16 and in 64 steps, six cells of
64 units × 10 seeds, one step each) 120 runs, about 2 minutes on 2 cores, of compiling.
Expected: the sigmoid's gradient vanishes by a power of a quarter, a ReLU's that starts orthogonal
by a power of a half or so, the tanh's hardly; the IRNN's does not; the gated cells' vanish, too:
what they do with time, they learn.
"""

from research.config import get_config as defaults
from research.experiment import cross, levels

CELLS = ("rnn", "rnn_relu", "rnn_sigmoid", "irnn", "lstm", "gru")


def get_config(scale):
    config = defaults()
    config.experiment.baseline = "rnn-side4"
    config.experiment.factors = ("model.cell", "data.image_size")
    config.experiment.panels = ("gradient_reach",)
    config.experiment.seeds = 10
    config.data.name = "pixels/digits"
    config.data.batch_size = 32
    config.model.name = "recurrent"
    config.model.hidden_size = 64
    config.optimizer.name = "adam"
    config.train.steps = 1
    config.train.log_every = 1
    config.train.eval_every = 1
    config.train.diagnostics_every = 1
    config.train.tensorboard = False
    return config


def arms(scale):
    """Return what each arm changes; an image of side 4 takes 16 steps, one of side 8 64."""
    return cross(levels("model.cell", *CELLS), levels("data.image_size", 4, 8, prefix="side"))


scales = ("laptop",)
