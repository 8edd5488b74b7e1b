"""Can a recurrent network name a digit that it sees row by row?

    python launch.py --experiment=handwritten_rows
    python launch.py --experiment=handwritten_rows --scale=gpu --data_dir=$TFDS_DATA_DIR

Cost: laptop 10 runs in 29 s on one core; gpu 6 runs in about 24 min on one core.
Expected: gpu (MNIST, 28 rows) 98.5 % or more, the two cells alike; laptop (scikit-learn's digits, 8
rows) about 97 %.
"""

from research.config import get_config as defaults
from research.experiment import levels


def get_config(scale):
    config = defaults()
    config.experiment.baseline = "lstm"
    config.experiment.panels = ("test/accuracy", "test/loss", "train/loss")
    config.model.name = "recurrent"
    config.optimizer.name = "adam"
    config.optimizer.schedule.name = "cosine"
    config.optimizer.clip.kind = "global_norm"
    config.optimizer.clip.threshold = 1.0
    config.train.tensorboard = False
    if scale == "laptop":
        config.data.name = "rows/digits"
        config.data.batch_size = 32
        config.model.hidden_size = 64
        config.optimizer.learning_rate = 0.003
        config.train.steps = 500
        config.train.eval_every = 100
    else:
        config.experiment.seeds = 3
        config.data.name = "rows/mnist"
        config.data.batch_size = 128
        config.model.hidden_size = 128
        config.optimizer.learning_rate = 0.002
        config.train.epochs = 5.0
        config.train.eval_every = 422  # steps: an epoch
        config.train.log_every = 100
    return config


def arms(scale):
    """Return what each arm changes."""
    return levels("model.cell", "lstm", "gru")


scales = ("laptop", "gpu")
