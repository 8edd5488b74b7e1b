"""Does a language model of words gain by tied embeddings?

    python launch.py --experiment=words
    python launch.py --experiment=words --scale=gpu --data_dir=$TFDS_DATA_DIR

Cost: laptop 10 runs in 42 s on one core; gpu 2 runs of a quarter of an epoch
in 3 min 43 s on 2 cores.
Expected: gpu (War and Peace, half a million words, a vocabulary of 10,000) a lower perplexity with
tied embeddings, at little more than half the parameters; laptop (1,400 words) it only shows that it
works.
"""

from research.config import get_config as defaults


def get_config(scale):
    config = defaults()
    config.experiment.baseline = "untied"
    config.experiment.panels = ("test/perplexity", "test/loss", "train/loss")
    config.data.tokens = "word"
    config.model.name = "recurrent"
    config.model.cell = "lstm"
    config.model.variational = True
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 0.002
    config.optimizer.schedule.name = "cosine"
    config.optimizer.clip.kind = "global_norm"
    config.optimizer.clip.threshold = 1.0
    config.train.tensorboard = False
    if scale == "laptop":
        config.data.name = "toy/text"
        config.data.length = 20
        config.data.batch_size = 4
        config.model.hidden_size = 32
        config.train.steps = 300
        config.train.eval_every = 50
    else:
        config.experiment.seeds = 3
        config.data.name = "gutenberg/war_and_peace"
        config.data.vocabulary_size = 10_000
        config.data.length = 35
        config.data.batch_size = 20
        config.model.hidden_size = 200
        config.model.input_dropout = 0.3
        config.model.output_dropout = 0.3
        config.train.epochs = 2.0
        config.train.eval_every = 484  # steps: half an epoch
        config.train.log_every = 121
    return config


def arms(scale):
    """Return what each arm changes."""
    return {"untied": {}, "tied": {"model.tied": True}}


scales = ("laptop", "gpu")
