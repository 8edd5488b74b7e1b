"""Which digit was spoken: is it better named, or spelt letter by letter?

    python launch.py --experiment=spoken_digits
    python launch.py --experiment=spoken_digits --scale=gpu --data_dir=$TFDS_DATA_DIR

Cost: gpu 6 runs in 9 min 49 s on 2 busy cores; laptop 10 runs in 3 min 21 s on one core.
Expected: named, laptop (300 made tones) and gpu (3,000 recordings of six speakers) 95 % right or
more; spelt by CTC, which is not told that there are ten words only, somewhat less.
"""

from research.config import get_config as defaults


def get_config(scale):
    config = defaults()
    config.experiment.baseline = "named"
    config.experiment.panels = ("test/accuracy", "test/error_rate")
    config.data.batch_size = 32
    config.model.name = "recurrent"
    config.model.cell = "gru"
    config.model.bidirectional = True
    config.model.hidden_size = 64
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 0.003
    config.optimizer.schedule.name = "cosine"
    config.optimizer.clip.kind = "global_norm"
    config.optimizer.clip.threshold = 1.0
    config.train.tensorboard = False
    if scale == "laptop":
        config.data.name = "toy/tones"
        config.model.hidden_size = 32
        config.optimizer.learning_rate = 0.01
        config.train.steps = 800
        config.train.eval_every = 100
    else:
        config.experiment.seeds = 3
        config.data.name = "fsdd"
        config.model.num_layers = 2
        config.model.dropout = 0.3
        config.model.output_dropout = 0.3
        config.train.epochs = 15.0
        config.train.eval_every = 76  # steps: an epoch
    return config


def arms(scale):
    """Return what each arm changes."""
    return {
        "named": {"model.readout": "mean"},
        "spelt": {"train.task": "transcription"},
    }


scales = ("laptop", "gpu")
