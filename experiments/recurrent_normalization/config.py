"""Does a norm help a recurrent network as it helps a convolutional one?

    python launch.py --experiment=recurrent_normalization

Cost: laptop (embedded digits pixel by pixel in 64 steps, a tanh RNN and an LSTM of 64 units with
three norms × 5 seeds, each arm at its best of three learning rates) 48 runs in 6 min 15 s on one
core of 2.
Expected: layer norm speeds up the LSTM and steadies the tanh RNN; batch norm, which is of the
input's projection only, does little where the input is one pixel.
"""

from research.config import get_config as defaults
from research.experiment import cross, levels

NORMS = {
    "none": {"model.layer_norm": False, "model.batch_norm": False},
    "layer": {"model.layer_norm": True, "model.batch_norm": False},
    "batch": {"model.layer_norm": False, "model.batch_norm": True},
}


def get_config(scale):
    config = defaults()
    config.experiment.baseline = "lstm-none"
    config.experiment.factors = ("model.cell", "model.layer_norm", "model.batch_norm")
    config.experiment.within = ("model.cell",)
    config.experiment.panels = ("test/accuracy", "steps_to_accuracy", "test/loss", "train/loss")
    config.experiment.target_accuracy = 0.8
    config.experiment.tune.grid = (0.001, 0.003, 0.01)
    config.data.name = "pixels/digits"
    config.data.batch_size = 32
    config.model.name = "recurrent"
    config.model.hidden_size = 64
    config.optimizer.name = "adam"
    config.optimizer.clip.kind = "global_norm"
    config.optimizer.clip.threshold = 1.0
    config.train.steps = 500
    config.train.eval_every = 50
    config.train.checkpoint_every = 50
    config.train.log_every = 50
    config.train.diagnostics_every = 250
    config.train.tensorboard = False
    return config


def arms(scale):
    """Return what each arm changes."""
    return cross(levels("model.cell", "lstm", "rnn"), NORMS)


scales = ("laptop",)
