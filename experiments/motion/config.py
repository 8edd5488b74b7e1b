"""What does a watch's wearer do: does it help to read the motion in both directions?

    python launch.py --experiment=motion
    python launch.py --experiment=motion --scale=gpu --data_dir=$TFDS_DATA_DIR

Cost: gpu 6 runs in 22 s on 2 busy cores; laptop 10 runs in 26 s on one core.
Expected: gpu (BasicMotions, 40 examples to learn four motions from) 90 % or more, no difference
that 40 test examples can show; laptop (a made accelerometer) nearly all right.
"""

from research.config import get_config as defaults


def get_config(scale):
    config = defaults()
    config.experiment.baseline = "forward"
    config.experiment.panels = ("test/accuracy", "test/loss", "train/loss")
    config.model.name = "recurrent"
    config.model.cell = "gru"
    config.model.hidden_size = 32
    config.model.readout = "mean"
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 0.003
    config.optimizer.clip.kind = "global_norm"
    config.optimizer.clip.threshold = 1.0
    config.train.tensorboard = False
    if scale == "laptop":
        config.data.name = "toy/motion"
        config.data.batch_size = 32
        config.model.hidden_size = 16
        config.train.steps = 200
        config.train.eval_every = 50
    else:
        config.experiment.seeds = 3
        config.data.name = "ucr/BasicMotions"
        config.data.batch_size = 12
        config.data.validation = 0.2  # eight of 40
        config.model.output_dropout = 0.3
        config.train.steps = 300
        config.train.eval_every = 30
    return config


def arms(scale):
    """Return what each arm changes."""
    return {"forward": {}, "both": {"model.bidirectional": True}}


scales = ("laptop", "gpu")
