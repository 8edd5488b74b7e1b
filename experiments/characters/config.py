"""How well does a recurrent network guess Shakespeare's next letter, by LSTM or by GRU?

    python launch.py --experiment=characters
    python launch.py --experiment=characters --scale=gpu --data_dir=$TFDS_DATA_DIR

Cost: laptop 10 runs in 61 s on one core; gpu 2 runs of half the steps in 9 min
39 s on 2 cores.
Expected: gpu (1.1 million characters) about 2.4 bits per character, the GRU ahead;
laptop (9,000 characters) 3 bits or more: too short a text to learn words from.
"""

from research.config import get_config as defaults
from research.experiment import levels


def get_config(scale):
    config = defaults()
    config.experiment.baseline = "lstm"
    config.experiment.panels = ("test/bits", "test/loss", "train/loss")
    config.model.name = "recurrent"
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 0.002
    config.optimizer.schedule.name = "cosine"
    config.optimizer.clip.kind = "global_norm"
    config.optimizer.clip.threshold = 1.0
    config.train.tensorboard = False
    if scale == "laptop":
        config.data.name = "toy/text"
        config.data.length = 50
        config.data.batch_size = 8
        config.model.hidden_size = 64
        config.train.steps = 500
        config.train.eval_every = 100
    else:
        config.experiment.seeds = 3
        config.data.name = "tinyshakespeare"
        config.data.length = 100
        config.data.batch_size = 32
        config.model.hidden_size = 256
        config.model.output_dropout = 0.2
        config.train.steps = 3000
        config.train.eval_every = 500
        config.train.log_every = 100
    return config


def arms(scale):
    """Return what each arm changes."""
    return levels("model.cell", "lstm", "gru")


scales = ("laptop", "gpu")
