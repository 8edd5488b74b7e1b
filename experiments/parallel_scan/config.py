"""What do recurrent cells lose, and gain in time, that a parallel scan can run?

    python launch.py --experiment=parallel_scan

Cost: laptop (embedded digits pixel by pixel, enlarged or shrunk to 16, 64 and 256 steps, four cells
of 64 units in two layers × 5 seeds, each arm at its better of two learning rates) 84 runs in 20
min on 2 busy cores.
Expected: on two cores a scan in parallel has little to gain: minLSTM and minGRU, whose gates do not
see the state, take less time than the LSTM since they do less arithmetic in each step, and more so
the longer the sequence; they lose some accuracy to it, and the LRU, without gates, none at 256.
"""

from research.config import get_config as defaults
from research.experiment import cross, levels

CELLS = ("lstm", "min_lstm", "min_gru", "lru")
SIDES = (4, 8, 16)  # of the images, whose pixels are the steps


def get_config(scale):
    config = defaults()
    config.experiment.baseline = "lstm-side8"
    config.experiment.factors = ("model.cell", "data.image_size")
    config.experiment.panels = ("test/accuracy", "test/loss", "steps_to_accuracy", "train/loss")
    config.experiment.target_accuracy = 0.8
    config.experiment.tune.grid = (0.001, 0.003)
    config.data.name = "pixels/digits"
    config.data.batch_size = 32
    config.model.name = "recurrent"
    config.model.hidden_size = 64
    config.model.num_layers = 2
    config.optimizer.name = "adam"
    config.optimizer.clip.kind = "global_norm"
    config.optimizer.clip.threshold = 1.0
    config.train.steps = 500
    config.train.eval_every = 100
    config.train.checkpoint_every = 100
    config.train.log_every = 100
    config.train.tensorboard = False
    return config


def arms(scale):
    """Return what each arm changes."""
    return cross(levels("model.cell", *CELLS), levels("data.image_size", *SIDES, prefix="side"))


scales = ("laptop",)
