"""How well does a recurrent network tell where a pen goes next, and can it draw?

    python launch.py --experiment=pen_strokes
    python launch.py --experiment=pen_strokes --scale=gpu --data_dir=$TFDS_DATA_DIR

Cost: laptop 10 runs in 70 s on one core; gpu 2 runs of one epoch in 3 min on
2 cores.
Expected: a negative log-likelihood that falls below 0 (it is of a density), gpu (10,000 Chinese
characters) and laptop (spirals and stars), and drawings one would take for such.
"""

from research.config import get_config as defaults
from research.experiment import levels


def get_config(scale):
    config = defaults()
    config.experiment.baseline = "lstm"
    config.experiment.panels = ("test/loss", "train/loss", "diverged")
    config.model.name = "recurrent"
    config.optimizer.name = "adam"
    config.optimizer.schedule.name = "cosine"
    config.optimizer.clip.kind = "global_norm"
    config.optimizer.clip.threshold = 1.0
    config.train.tensorboard = False
    if scale == "laptop":
        config.data.name = "toy/strokes"
        config.data.batch_size = 32
        config.model.hidden_size = 64
        config.optimizer.learning_rate = 0.003
        config.train.steps = 500
        config.train.eval_every = 100
    else:
        config.experiment.seeds = 3
        config.data.name = "strokes/kanji"
        config.data.batch_size = 64
        config.model.hidden_size = 256
        config.optimizer.learning_rate = 0.002
        config.train.epochs = 6.0
        config.train.eval_every = 156  # steps: an epoch
    return config


def arms(scale):
    """Return what each arm changes."""
    return levels("model.cell", "lstm", "gru")


scales = ("laptop", "gpu")
