"""What torch computes in one training step: `python tests/models/torch_training.py` writes it.

For each model, torch_training.npz has the loss, and for every tensor two numbers: the norm of its
gradient (of a running mean: the norm of itself after the step) and the product with `draw`, which
sees a wrong order. It was written with torch 2.13, torchvision 0.28 and timm 1.0, on a CPU in
float64. Deep networks are those of `short_tables`: torch's own modules, but for what is left out.
"""

import zlib
from pathlib import Path

import numpy as np

FILE = Path(__file__).with_suffix(".npz")
HIDDEN = {"hidden": (16, 16), "num_classes": 10, "dropout": 0.0}
BARE = {"num_classes": 10, "dropout": 0.0}
# Name → images, their side and seed, switches. By these seeds no activation or maximum is so near
# its kink that rounding in float32 takes the other side.
MODELS = {
    "alexnet": (4, 63, 0, HIDDEN),
    "vgg11_bn": (4, 32, 0, {"width": 8, **HIDDEN}),
    "resnet18": (4, 64, 0, BARE),
    "resnet50": (4, 64, 1, BARE),
    "googlenet": (4, 64, 0, {"aux_dropout": 0.0, **BARE}),
    "inception_v3": (8, 72, 0, BARE),
    "xception": (4, 48, 0, BARE),
    "mobilenet_v1": (4, 64, 0, BARE),
    "mobilenet_v2": (4, 64, 3, {"width_multiplier": 0.25, **BARE}),
}
AUXILIARY = {"googlenet": 0.3, "inception_v3": 0.4}  # weight of each auxiliary head's loss
LABELS = np.array([3, 1, 4, 1, 5, 9, 2, 6])


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


def images(number, side, seed):
    """[N, C, H, W]."""
    draw = np.random.RandomState(seed).standard_normal((number, 3, side, side))
    return draw.astype(np.float32)


def numbers(name, tensor):
    tensor = np.asarray(tensor, np.float64)
    return np.linalg.norm(tensor), (tensor * draw(name, tensor.shape)).sum()


def without(model, *names):
    from torch import nn

    for name in names:
        setattr(model, name, nn.Identity())
    return model


def torch_models():
    """torch's own networks, narrow or short as `MODELS` and `short_tables` have them."""
    import timm
    from timm.models.xception import Block, SeparableConv2d, Xception
    from torch import nn
    from torchvision import models
    from torchvision.models import inception
    from torchvision.models.googlenet import Inception, InceptionAux
    from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
    from torchvision.models.vgg import VGG, make_layers

    def classifier(inputs, *first):
        hidden = [nn.Linear(inputs, 16), nn.ReLU(), nn.Dropout(0), nn.Linear(16, 16), nn.ReLU()]
        rest = [] if first else [nn.Dropout(0)]
        return nn.Sequential(*first, *hidden, *rest, nn.Linear(16, 10))

    alexnet = models.AlexNet(num_classes=10)
    alexnet.classifier = classifier(256 * 36, nn.Dropout(0))
    yield "alexnet", alexnet

    vgg = VGG(make_layers([8, "M", 16, "M", 32, 32, "M", 64, 64, "M", 64, 64, "M"], True))
    vgg.classifier = classifier(64 * 49)
    yield "vgg11_bn", vgg

    yield "resnet18", ResNet(BasicBlock, [1, 1, 1, 1], num_classes=10)
    yield "resnet50", ResNet(Bottleneck, [1, 1, 1, 1], num_classes=10)

    net = models.GoogLeNet(10, init_weights=False, dropout=0.0, dropout_aux=0.0)
    net.inception3a = Inception(192, 8, 8, 16, 8, 8, 8)
    net.inception4a = Inception(40, *(8,) * 6)
    net.inception4d = Inception(32, *(8,) * 6)
    net.aux1, net.aux2 = (InceptionAux(32, 10, dropout=0.0) for _ in range(2))
    net.fc = nn.Linear(32, 10)
    left_out = ["inception3b", "inception4b", "inception4c", "inception4e", "maxpool4"]
    yield "googlenet", without(net, *left_out, "inception5a", "inception5b")

    net = models.Inception3(10, init_weights=False, dropout=0.0)
    net.Conv2d_1a_3x3 = inception.BasicConv2d(3, 8, kernel_size=3, stride=2)
    net.Mixed_5b = inception.InceptionA(8, pool_features=8)
    net.Mixed_6a = inception.InceptionB(232)
    net.Mixed_6e = inception.InceptionC(712, channels_7x7=8)
    left_out = ["Conv2d_2a_3x3", "Conv2d_2b_3x3", "maxpool1", "Conv2d_3b_1x1", "Conv2d_4a_3x3"]
    left_out += ["maxpool2", "Mixed_5c", "Mixed_5d", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_7c"]
    yield "inception_v3", without(net, *left_out)

    net = Xception(10)
    net.block1 = Block(64, 72, 2, 2, start_with_relu=False)
    net.block2 = Block(72, 72, 3, 1)
    net.block12 = Block(72, 80, 2, 2, grow_first=False)
    net.conv3 = SeparableConv2d(80, 1536, 3, 1, 1)
    yield "xception", without(net, *(f"block{i}" for i in range(3, 12)))

    yield "mobilenet_v1", timm.create_model("mobilenetv1_100", num_classes=10)
    yield "mobilenet_v2", models.mobilenet_v2(width_mult=0.25, num_classes=10, dropout=0.0)


def main():
    import torch
    from torch.nn.functional import cross_entropy

    record = {}
    for key, model in torch_models():
        for name, tensor in model.state_dict().items():
            if not name.endswith("num_batches_tracked"):
                tensor.copy_(torch.tensor(refill(name, tuple(tensor.shape))))
        model.double().train()
        outputs = model(torch.tensor(images(*MODELS[key][:3])).double())
        first, *others = outputs if isinstance(outputs, tuple) else (outputs,)
        labels = torch.tensor(LABELS[: len(first)])
        loss = cross_entropy(first, labels)
        loss += sum(AUXILIARY[key] * cross_entropy(o, labels) for o in others)
        loss.backward()
        tensors = {name: p.grad for name, p in model.named_parameters()}
        tensors |= {n: b for n, b in model.named_buffers() if n.endswith("running_mean")}
        record[f"{key}/loss"] = loss.item()
        record[f"{key}/names"] = np.array(list(tensors), "S")
        record[f"{key}/numbers"] = np.array([numbers(n, t) for n, t in tensors.items()])
    np.savez_compressed(FILE, **record)


if __name__ == "__main__":
    main()
