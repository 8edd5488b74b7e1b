"""What torch computes in one training step: `python tests/models/torch_training.py` writes it.

For each model, torch_training.npz has the loss, and for every tensor two numbers: the norm of its
gradient (of a running mean: the norm of itself after the step) and the product with `draw`, which
sees a wrong order. It was written with torch 2.13 and torchvision 0.28, on a CPU in float32.
"""

import zlib
from pathlib import Path

import numpy as np

FILE = Path(__file__).with_suffix(".npz")
# Name → side of the images, switches.
MODELS = {
    "vgg11_bn": (32, {"width": 8, "hidden": (16, 16), "num_classes": 10, "dropout": 0.0}),
    "mobilenet_v2": (64, {"width_multiplier": 0.25, "num_classes": 10, "dropout": 0.0}),
}
LABELS = np.array([3, 1, 4, 1])


def draw(name, shape):
    return np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)


def refill(name, shape):
    """A tensor whose every number follows from its name."""
    if name.endswith("running_mean"):
        value = 0.1 * draw(name, shape)
    elif name.endswith("running_var"):
        value = 1 + 0.5 * np.tanh(draw(name, shape))
    elif len(shape) == 1:
        value = (1 if name.endswith("weight") else 0) + 0.1 * draw(name, shape)
    else:
        value = draw(name, shape) * np.sqrt(2 / np.prod(shape[1:]))
    return value.astype(np.float32)


def images(side):
    """[N, C, H, W]."""
    return np.random.RandomState(0).standard_normal((4, 3, side, side)).astype(np.float32)


def numbers(name, tensor):
    tensor = np.asarray(tensor, np.float64)
    return np.linalg.norm(tensor), (tensor * draw(name, tensor.shape)).sum()


def main():
    import torch
    from torch import nn
    from torchvision.models import mobilenet_v2
    from torchvision.models.vgg import VGG, make_layers

    table = [8, "M", 16, "M", 32, 32, "M", 64, 64, "M", 64, 64, "M"]
    vgg = VGG(make_layers(table, batch_norm=True))
    hidden = [nn.Linear(64 * 49, 16), nn.ReLU(), nn.Dropout(0), nn.Linear(16, 16), nn.ReLU()]
    vgg.classifier = nn.Sequential(*hidden, nn.Dropout(0), nn.Linear(16, 10))
    models = {
        "vgg11_bn": vgg,
        "mobilenet_v2": mobilenet_v2(width_mult=0.25, num_classes=10, dropout=0.0),
    }
    record = {}
    for key, model in models.items():
        for name, tensor in model.state_dict().items():
            if not name.endswith("num_batches_tracked"):
                tensor.copy_(torch.tensor(refill(name, tuple(tensor.shape))))
        model.train()
        logits = model(torch.tensor(images(MODELS[key][0])))
        loss = nn.functional.cross_entropy(logits, torch.tensor(LABELS))
        loss.backward()
        tensors = {name: p.grad for name, p in model.named_parameters()}
        tensors |= {n: b for n, b in model.named_buffers() if n.endswith("running_mean")}
        record[f"{key}/loss"] = loss.item()
        record[f"{key}/names"] = np.array(list(tensors), "S")
        record[f"{key}/numbers"] = np.array([numbers(n, t) for n, t in tensors.items()])
    np.savez_compressed(FILE, **record)


if __name__ == "__main__":
    main()
