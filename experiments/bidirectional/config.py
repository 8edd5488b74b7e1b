"""What does it buy to read a sequence from its end as well, at as many parameters?

    python launch.py --experiment=bidirectional

Cost: laptop (nine thousand embedded characters in lower case, of which the capitals are asked for,
three LSTMs × 10 seeds, each arm at its best of three learning rates) 39 runs in 17 min 11 s on 2
busy cores.
Expected: both directions have the lower loss, for whether a letter was a capital is often told by
the letters after it; a forward network of as many parameters gains nothing over a smaller one.
"""

from research.config import get_config as defaults


def get_config(scale):
    config = defaults()
    config.experiment.baseline = "forward"
    config.experiment.panels = ("test/loss", "test/accuracy", "train/loss")
    config.experiment.tune.grid = (0.001, 0.003, 0.01)
    config.experiment.seeds = 10
    config.data.name = "toy/case"
    config.data.batch_size = 16
    config.model.name = "recurrent"
    config.model.cell = "lstm"
    config.model.hidden_size = 32
    config.model.embedding_size = 16
    config.optimizer.name = "adam"
    config.optimizer.clip.kind = "global_norm"
    config.optimizer.clip.threshold = 1.0
    config.train.steps = 300
    config.train.eval_every = 25
    config.train.log_every = 25
    config.train.tensorboard = False
    return config


def arms(scale):
    """Return what each arm changes."""
    return {
        "forward": {},
        "wider": {"model.hidden_size": 48},  # as many parameters as both directions
        "bidirectional": {"model.bidirectional": True},
    }


scales = ("laptop",)
