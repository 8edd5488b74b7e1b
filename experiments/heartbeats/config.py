"""Is a heartbeat normal, and of which kind if not?

    python launch.py --experiment=heartbeats
    python launch.py --experiment=heartbeats --scale=gpu --data_dir=$TFDS_DATA_DIR

Cost: gpu 6 runs in 32 s on 2 busy cores; laptop 10 runs in 41 s on one core.
Expected: gpu (500 beats of ECG5000, of five classes, two of which are rare) about 93 %, with a far
lower balanced accuracy; laptop (made beats) nearly all right.
"""

from research.config import get_config as defaults
from research.experiment import levels


def get_config(scale):
    config = defaults()
    config.experiment.baseline = "lstm"
    config.experiment.panels = (
        "test/accuracy",
        "test/balanced_accuracy",
        "test/loss",
        "train/loss",
    )
    config.data.batch_size = 32
    config.model.name = "recurrent"
    config.model.hidden_size = 32
    config.model.readout = "mean"
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 0.003
    config.optimizer.clip.kind = "global_norm"
    config.optimizer.clip.threshold = 1.0
    config.train.tensorboard = False
    if scale == "laptop":
        config.data.name = "toy/heartbeats"
        config.train.steps = 300
        config.train.eval_every = 50
    else:
        config.experiment.seeds = 3
        config.data.name = "ecg5000"
        config.train.steps = 600
        config.train.eval_every = 50
    return config


def arms(scale):
    """Return what each arm changes."""
    return levels("model.cell", "lstm", "gru")


scales = ("laptop", "gpu")
