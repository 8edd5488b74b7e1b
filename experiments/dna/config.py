"""Is a stretch of DNA an enhancer, and does it help to read it in both directions?

    python launch.py --experiment=dna
    python launch.py --experiment=dna --scale=gpu --data_dir=$TFDS_DATA_DIR

Cost: gpu 6 runs in 1 min 41 s on 2 busy cores; laptop 10 runs in 64 s on one core.
Expected: gpu (2,968 stretches of 200 bases) about 73 %, as published for iEnhancer-2L; both
directions better, for an enhancer works either way round; laptop (a TATA box in random bases) 90 %
or more.
"""

from research.config import get_config as defaults


def get_config(scale):
    config = defaults()
    config.experiment.baseline = "forward"
    config.experiment.panels = ("test/accuracy", "test/auc", "test/mcc", "train/loss")
    config.data.batch_size = 32
    config.model.name = "recurrent"
    config.model.cell = "gru"
    config.model.hidden_size = 32
    config.model.embedding_size = 8
    config.model.readout = "max"
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 0.003
    config.optimizer.schedule.name = "cosine"
    config.optimizer.clip.kind = "global_norm"
    config.optimizer.clip.threshold = 1.0
    config.train.tensorboard = False
    if scale == "laptop":
        config.data.name = "toy/dna"
        config.train.steps = 300
        config.train.eval_every = 50
    else:
        config.experiment.seeds = 3
        config.data.name = "dna_enhancer"
        config.model.output_dropout = 0.3
        config.train.epochs = 10.0
        config.train.eval_every = 83  # steps: an epoch
    return config


def arms(scale):
    """Return what each arm changes."""
    return {"forward": {}, "both": {"model.bidirectional": True}}


scales = ("laptop", "gpu")
