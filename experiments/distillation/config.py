"""Does a small network learn more from a large one's answers than from the labels alone?

    python launch.py --experiment=distillation

Cost: laptop (100 embedded digits, a hidden layer of 16 units taught by two of 256, six arms × 20
seeds, each arm at its best of four learning rates) 31 minutes on 2 busy cores. The gpu scale
(CIFAR-100, ResNet-56 to ResNet-20; published: 69.06 % alone, 70.66 % distilled) has not been run
yet.
Expected: soft targets help, and more than smoothed labels do; the hint alone, little.
"""

from research.config import get_config as defaults

HINTS = {"laptop": ("act1", "act2"), "gpu": ("stage2/block3/act2", "stage2/block9/act2")}


def get_config(scale):
    config = defaults()
    config.experiment.baseline = "alone"
    config.experiment.panels = ("test/accuracy", "test/loss", "test/ece", "train/loss")
    config.distill.temperature = 4.0
    config.optimizer.schedule.name = "cosine"
    if scale == "laptop":
        config.experiment.seeds = 20
        config.experiment.tune.grid = (0.003, 0.01, 0.03, 0.1)
        config.experiment.tune.seeds = 3
        config.model.name = "mlp"
        config.model.hidden = (16,)
        config.data.name = "digits"
        config.data.train_size = 100
        config.data.batch_size = 20
        config.train.steps = 600
        config.train.eval_every = 200
        config.train.log_every = 100
        config.train.tensorboard = False
    elif scale == "gpu":
        config.experiment.tune.grid = (0.03, 0.1, 0.3)
        config.model.name = "resnet"
        config.model.depth = 20
        config.data.name = "cifar100"
        config.data.batch_size = 128
        config.data.augment = ("pad_crop", "flip")
        config.optimizer.l2 = 5e-4
        config.train.steps = 93_600
        config.train.eval_every = 1950
        config.train.log_every = 390
    return config


def arms(scale):
    """Return what each arm changes: the teacher, of the same examples, comes first."""
    large = {"laptop": {"model.hidden": (256, 256)}, "gpu": {"model.depth": 56}}[scale]
    taught = {"distill.teacher": "arm:teacher"}
    hint = {"distill.hint": HINTS[scale]}
    return {
        "alone": {},
        "smoothed": {"train.label_smoothing": 0.1},
        "soft": taught | {"distill.weight": 0.9},
        "hint": taught | hint | {"distill.weight": 0.0},
        "soft_and_hint": taught | hint | {"distill.weight": 0.9},
        "teacher": large,
    }


scales = ("laptop", "gpu")
