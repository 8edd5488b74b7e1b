"""Which digit did the pen write, read forward or in both directions?

    python launch.py --experiment=pen_recognition
    python launch.py --experiment=pen_recognition --scale=gpu --data_dir=$TFDS_DATA_DIR

Cost: gpu (7,494 digits) 6 runs in 91 s on one core of 2; laptop 10 runs in 24 s on one core.
Expected: gpu (eight points of each digit, by writers whom the network has not seen) 96 % or more;
laptop (made spirals and stars) all right.
"""

from research.config import get_config as defaults


def get_config(scale):
    config = defaults()
    config.experiment.baseline = "forward"
    config.experiment.panels = ("test/accuracy", "test/loss", "train/loss")
    config.data.batch_size = 64
    config.model.name = "recurrent"
    config.model.cell = "lstm"
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 0.005
    config.optimizer.schedule.name = "cosine"
    config.optimizer.clip.kind = "global_norm"
    config.optimizer.clip.threshold = 1.0
    config.train.tensorboard = False
    if scale == "laptop":
        config.data.name = "toy/pen"
        config.model.hidden_size = 16
        config.train.steps = 200
        config.train.eval_every = 50
    else:
        config.experiment.seeds = 3
        config.data.name = "pendigits"
        config.model.hidden_size = 64
        config.train.epochs = 20.0
        config.train.eval_every = 211  # steps: two epochs
    return config


def arms(scale):
    """Return what each arm changes."""
    return {"forward": {}, "both": {"model.bidirectional": True}}


scales = ("laptop", "gpu")
