"""Which notes sound next in a chorale, by LSTM or by GRU?

    python launch.py --experiment=music
    python launch.py --experiment=music --scale=gpu --data_dir=$TFDS_DATA_DIR

Cost: gpu 6 runs in 7 min 44 s on 2 busy cores; laptop 10 runs in 53 s on one core.
Expected: gpu (229 chorales by Bach) a negative log-likelihood of about 8.5 a step, as published for
a GRU, the cells alike; laptop (chords from a table) far lower, for these follow simpler rules.
"""

from research.config import get_config as defaults
from research.experiment import levels


def get_config(scale):
    config = defaults()
    config.experiment.baseline = "lstm"
    config.experiment.panels = ("test/loss", "test/frame_accuracy", "train/loss")
    config.data.batch_size = 16
    config.model.name = "recurrent"
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 0.003
    config.optimizer.clip.kind = "global_norm"
    config.optimizer.clip.threshold = 1.0
    config.train.tensorboard = False
    if scale == "laptop":
        config.data.name = "toy/chorales"
        config.model.hidden_size = 32
        config.optimizer.learning_rate = 0.01
        config.train.steps = 800
        config.train.eval_every = 100
    else:
        config.experiment.seeds = 3
        config.data.name = "jsb_chorales/quarter"
        config.model.hidden_size = 150
        config.model.input_dropout = 0.2
        config.model.output_dropout = 0.5
        config.train.steps = 1200
        config.train.eval_every = 50
        config.train.patience = 8
    return config


def arms(scale):
    """Return what each arm changes."""
    return levels("model.cell", "lstm", "gru")


scales = ("laptop", "gpu")
