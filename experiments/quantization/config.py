"""How few bits do weights need, with and without training for it?

    python launch.py --experiment=quantization

Cost: laptop (embedded digits; a LeNet with batch norm and a GRU that reads the rows, in floats of
32 and 16 bits, eight bits with three calibrations, four bits and signs, quantised after training
and trained so; 8 seeds) 240 runs in 24 min on a busy machine of 2 cores. The gpu scale (CIFAR-10, a
ResNet-20) has not been run yet.
Expected: eight bits keep the accuracy within a point at little more than a quarter of the size,
whatever the calibration; four bits lose a little, which training wins back; signs alone lose nearly
all without training and little with it.
"""

from research.config import get_config as defaults

NETWORKS = {"laptop": ("cnn", "rnn"), "gpu": ("cnn",)}
RNN = {"model.name": "recurrent", "data.name": "rows/digits"} | {
    "model.norm": None,
    "model.filters": None,
    "model.cell": "gru",
    "model.hidden_size": 128,
    "optimizer.learning_rate": 0.003,
    "optimizer.clip.kind": "global_norm",
    "train.steps": 600,
}
AFTER = {
    "float32": {"quantize.kind": "float32"},
    "bfloat16": {"quantize.kind": "bfloat16"},
    "float16": {"quantize.kind": "float16"},
    "int8": {"quantize.kind": "int8"},
    "int8-percentile": {"quantize.kind": "int8", "quantize.calibration": "percentile"},
    "int8-mse": {"quantize.kind": "int8", "quantize.calibration": "mse"},
    "int4": {"quantize.kind": "int4"},
    "binary": {"quantize.kind": "binary"},
    "xnor": {"quantize.kind": "xnor"},
}
TRAINED = ("int8", "int4", "binary", "xnor")


def design(network):
    """Return the arms of one network, `cnn` or `rnn`, all from its run in floats."""
    base = (RNN if network == "rnn" else {}) | {"init_from": f"arm:{network}-source"}
    trained = {"float32": {"quantize.kind": "none"}}  # as many steps more
    trained |= {kind: AFTER[kind] for kind in TRAINED}
    return {f"{network}-{kind}": base | change for kind, change in AFTER.items()} | {
        f"{network}-{kind}-trained": base | change | {"quantize.when": "during"}
        for kind, change in trained.items()
    }


def get_config(scale):
    config = defaults()
    config.experiment.arms = tuple(arm for network in NETWORKS[scale] for arm in design(network))
    config.experiment.baseline = "cnn-float32"
    config.experiment.factors = (
        *("quantize.kind", "quantize.when", "quantize.calibration", "data.name"),
    )
    config.experiment.within = ("data.name",)
    config.experiment.panels = (
        *("test/accuracy", "size/share", "size/disk_kb", "size/parameters_kb"),
        *("snr_db", "latency_ms"),
    )
    if scale == "gpu":  # one set of data
        config.experiment.factors, config.experiment.within = (), ()
    config.optimizer.schedule.name = "cosine"
    config.train.probes = ("footprint",)
    config.train.tensorboard = False
    if scale == "laptop":
        config.experiment.seeds = 8
        config.model.name = "lenet"
        config.model.norm = "batch"
        config.model.filters = (16, 32)
        config.data.name = "digits"
        config.data.batch_size = 32
        config.optimizer.name = "adam"
        config.optimizer.learning_rate = 0.002
        config.train.steps = 400
        config.train.eval_every = 100
        config.train.log_every = 100
    elif scale == "gpu":
        config.model.name = "resnet20"
        config.data.name = "cifar10"
        config.data.batch_size = 128
        config.data.augment = ("pad_crop", "flip")
        config.optimizer.l2 = 1e-4
        config.train.steps = 16_000
        config.train.eval_every = 800
        config.train.log_every = 100
    return config


def arms(scale):
    """Return what each arm changes: those that others start from first."""
    sources = {f"{network}-source": RNN if network == "rnn" else {} for network in NETWORKS[scale]}
    found = sources
    for network in NETWORKS[scale]:
        found = found | design(network)
    return found


scales = ("laptop", "gpu")
