"""Does an LSTM converge faster than a plain recurrent network, and what does a step of it cost?

    python launch.py --experiment=cells

Cost: laptop (embedded digits pixel by pixel in 64 steps, three cells of 64 units × 10 seeds, each
at its best of three learning rates) 39 runs, about 3 minutes on 2 cores.
Expected: over 64 steps the tanh RNN is there first, in updates and in time; a step of the LSTM
takes two to four times as long, of the GRU a little less.
"""

from research.config import get_config as defaults
from research.experiment import levels


def get_config(scale):
    config = defaults()
    config.experiment.baseline = "rnn"
    config.experiment.panels = (
        *("steps_to_accuracy", "test/accuracy", "utilization/step_ms"),
        *("test/loss", "train/loss"),
    )
    config.experiment.target_accuracy = 0.8
    config.experiment.tune.grid = (0.001, 0.003, 0.01)
    config.experiment.seeds = 10
    config.data.name = "pixels/digits"
    config.data.batch_size = 32
    config.model.name = "recurrent"
    config.model.hidden_size = 64
    config.optimizer.name = "adam"
    config.optimizer.clip.kind = "global_norm"
    config.optimizer.clip.threshold = 1.0
    config.train.steps = 800
    config.train.eval_every = 25
    config.train.checkpoint_every = 100
    config.train.log_every = 25
    config.train.tensorboard = False
    return config


def arms(scale):
    """Return what each arm changes."""
    return levels("model.cell", "rnn", "gru", "lstm")


scales = ("laptop",)
