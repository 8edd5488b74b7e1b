"""What does a step cost, and how does it scale, under each layout of the same training?

    python launch.py --experiment=parallelism
    python launch.py --experiment=parallelism --scale=cluster --mode=plan --topology=v5e:16x16 \
        --arms=resnet50,resnet50_device_norm
    python launch.py --experiment=parallelism --scale=cluster --mode=plan --topology=v5p:8x16x16 \
        --arms=lstm

Cost: laptop (embedded digits, a ResNet-8 on up to eight host devices, 11 layouts × 5 seeds, one
run at a time) 55 runs in 5 min 51 s on 2 cores; a plan of ResNet-50 2 min 44 s on 2 cores.
Expected: host devices share two cores, so that more of them are slower; the plan's data-parallel
ResNet-50 loses to the statistics of its norms, which wait for one another's all-reduces, and next
to nothing to its gradients.
"""

from research.config import get_config as defaults


def get_config(scale):
    config = defaults()
    config.optimizer.schedule.name = "cosine"
    config.train.tensorboard = False
    if scale == "laptop":
        config.experiment.baseline = "one"
        config.experiment.panels = (
            *("utilization/step_ms", "utilization/gflops", "utilization/state_mb"),
            *("utilization/communication_mb", "utilization/communication", "test/accuracy"),
        )
        config.data.name = "digits"
        config.model.name = "resnet"
        config.model.depth = 8
        config.train.steps = 100
        config.train.eval_every = 100
        config.train.log_every = 10
    else:
        config.experiment.baseline = "resnet50"
        config.data.name = "imagenet2012"
        config.data.image_size = 224
        config.data.normalize = "imagenet"
        config.data.augment = ("random_resized_crop", "flip")
        config.data.batch_size = 16_384  # 64 on each of 256 chips
        config.data.eval_batch_size = 16_384
        config.model.name = "resnet50"
        config.optimizer.learning_rate = 6.4
        config.optimizer.nesterov = True
        config.optimizer.l2 = 5e-5
        config.optimizer.schedule.warmup = 0.05
        config.train.precision = "bfloat16"
        config.train.epochs = 90.0
        config.train.log_every = 20
        config.train.eval_every = 400
        config.train.label_smoothing = 0.1
        config.train.mesh = "data:-1"
    return config


# A run at a time (`seed:1`), so that times are its own.
LAYOUTS = {
    "one": {"train.mesh": "seed:1"},
    "data2": {"train.mesh": "seed:1,data:2"},
    "data4": {"train.mesh": "seed:1,data:4"},
    "data8": {"train.mesh": "seed:1,data:8"},
    "fsdp8": {"train.mesh": "seed:1,fsdp:8"},
    "data4_model2": {"train.mesh": "seed:1,data:4,model:2"},
    "shard_map8": {"train.mesh": "seed:1,data:8", "train.parallel": "shard_map"},
    "pmap8": {"train.mesh": "seed:1,data:8", "train.parallel": "pmap"},
    # As many images on each device as `data8` has.
    "weak1": {"train.mesh": "seed:1", "data.batch_size": 16},
    "weak2": {"train.mesh": "seed:1,data:2", "data.batch_size": 32},
    "weak4": {"train.mesh": "seed:1,data:4", "data.batch_size": 64},
}

WORDS = {
    "data.name": "lm1b",
    "data.image_size": 0,
    "data.normalize": "dataset",
    "data.augment": (),
    "data.vocabulary_size": 131_072,
    "data.length": 128,
    "data.batch_size": 16_384,
    "model.name": "recurrent",
    "model.cell": "lstm",
    "model.hidden_size": 8192,
    "model.embedding_size": 1024,
    "model.num_layers": 2,
    "optimizer.name": "adam",
    "optimizer.learning_rate": 0.001,
    "optimizer.nesterov": False,
    "optimizer.l2": 0.0,
    "optimizer.clip.kind": "global_norm",
    "train.label_smoothing": 0.0,
}


def arms(scale):
    """Return what each arm changes."""
    if scale == "laptop":
        return LAYOUTS
    return {
        "resnet50": {},
        "resnet50_device_norm": {"train.batch_statistics": "device"},
        "resnet50_fsdp": {"train.mesh": "fsdp:-1"},
        "lstm": WORDS | {"train.mesh": "data:-1,model:8"},
    }


scales = ("laptop", "cluster")
