"""Which activation lets a plain recurrent network learn, over few steps and over many?

    python launch.py --experiment=recurrent_activations

Cost: laptop (embedded digits, row by row in 8 steps or pixel by pixel in 64, four recurrent
networks of 64 units × 10 seeds, each arm at its best of three learning rates) 104 runs in 7 min 58
s on one core of 2.
Expected: row by row all but the sigmoid are close; pixel by pixel the ReLU that starts from the
identity (IRNN) leads, the tanh follows, the ReLU that starts orthogonal is unsteady, and the
sigmoid, whose slope is at most a quarter, is near chance.
"""

from research.config import get_config as defaults
from research.experiment import cross, levels

CELLS = ("rnn", "rnn_relu", "rnn_sigmoid", "irnn")


def get_config(scale):
    config = defaults()
    config.experiment.baseline = "rnn-rows"
    config.experiment.factors = ("model.cell", "data.name")
    config.experiment.within = ("data.name",)
    config.experiment.panels = ("test/accuracy", "test/loss", "train/loss", "diverged")
    config.experiment.tune.grid = (0.0003, 0.001, 0.003)
    config.experiment.seeds = 10
    config.data.batch_size = 32
    config.model.name = "recurrent"
    config.model.hidden_size = 64
    config.optimizer.name = "adam"
    config.optimizer.clip.kind = "global_norm"
    config.optimizer.clip.threshold = 1.0
    config.train.steps = 1000
    config.train.eval_every = 100
    config.train.checkpoint_every = 100
    config.train.log_every = 50
    config.train.diagnostics_every = 500
    config.train.tensorboard = False
    return config


def arms(scale):
    """Return what each arm changes."""
    scans = {scan: {"data.name": f"{scan}/digits"} for scan in ("rows", "pixels")}
    return cross(levels("model.cell", *CELLS), scans)


scales = ("laptop",)
