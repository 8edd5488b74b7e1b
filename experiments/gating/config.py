"""Do gates let a recurrent network remember for longer, and how much longer?

    python launch.py --experiment=gating

Cost: laptop (the adding problem of 50 and 200 steps, four cells of 64 units × 5 seeds, each arm at
its better of two learning rates) 56 runs in 22 min on 2 cores.
Expected: LSTM and GRU solve it (mean squared error below 0.01) at both lengths, the IRNN later or
at the shorter one only, the tanh RNN at neither: it stays at 1/6, the error of always answering 1,
and the gradient that reaches its first states vanishes.

On request, by `--arms`: 100 steps (`'*-T100'`).
"""

from research.config import get_config as defaults
from research.experiment import cross, levels

CELLS = ("rnn", "irnn", "lstm", "gru")
LENGTHS = (50, 100, 200)


def get_config(scale):
    config = defaults()
    config.experiment.arms = tuple(f"{cell}-T{length}" for length in (50, 200) for cell in CELLS)
    config.experiment.baseline = "rnn-T50"
    config.experiment.factors = ("model.cell", "data.length")
    config.experiment.panels = ("test/loss", "steps_to_loss", "train/loss", "diverged")
    config.experiment.target_loss = 0.01  # which counts as solved
    config.experiment.tune.grid = (0.001, 0.01)
    config.experiment.seeds = 5
    config.data.name = "adding"
    config.data.batch_size = 32
    config.model.name = "recurrent"
    config.model.hidden_size = 64
    config.optimizer.name = "adam"
    config.optimizer.clip.kind = "global_norm"
    config.optimizer.clip.threshold = 1.0
    config.train.steps = 2400
    config.train.eval_every = 200
    config.train.checkpoint_every = 400
    config.train.log_every = 100
    config.train.diagnostics_every = 500
    config.train.tensorboard = False
    return config


def arms(scale):
    """Return what each arm changes."""
    return cross(levels("model.cell", *CELLS), levels("data.length", *LENGTHS, prefix="T"))


scales = ("laptop",)
