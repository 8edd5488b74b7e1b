"""What a model is made of, against closed forms, published figures and XLA's count."""

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

from research.inspection.structure import structure
from research.models import MODELS, create_model
from research.models.rnn import Recurrent

# Name → parameters, and multiply–adds in millions, as torchvision's documentation states them
# (https://pytorch.org/vision/stable/models.html, "GFLOPS").
PUBLISHED = {
    "resnet18": (11_689_512, 1.81e9),
    "resnet34": (21_797_672, 3.66e9),
    "resnet50": (25_557_032, 4.09e9),
    "resnet101": (44_549_160, 7.80e9),
    "resnet152": (60_192_808, 11.51e9),
    "alexnet": (61_100_840, 0.71e9),
    "vgg11": (132_863_336, 7.61e9),
    "vgg13": (133_047_848, 11.31e9),
    "vgg16": (138_357_544, 15.47e9),
    "vgg19": (143_667_240, 19.63e9),
    "vgg16_bn": (138_365_992, 15.47e9),
    "mobilenet_v2": (3_504_872, 0.30e9),
    "inception_v3": (27_161_264, 5.71e9),
    "googlenet": (13_004_888, 1.50e9),  # with both auxiliary heads, which only training uses
}


@pytest.mark.parametrize("name", sorted(PUBLISHED.keys() & MODELS.keys()))
def test_published_figures(name):
    model = create_model(name)
    made_of = structure(model, model.input_shape)
    parameters, macs = PUBLISHED[name]
    assert made_of.parameters == parameters
    assert made_of.macs == pytest.approx(macs, abs=0.006e9)


class Parts(nn.Module):
    """One layer of each kind, on images of 12×12×3."""

    @nn.compact
    def __call__(self, x, *, train=False):
        x = nn.Conv(8, (3, 3), padding="VALID", name="textbook")(x)  # 12 → 10
        x = nn.Conv(8, (3, 3), 2, padding=1, feature_group_count=8, name="depthwise")(x)  # → 5
        x = nn.BatchNorm(use_running_average=not train, name="norm")(x)
        x = nn.relu(x)
        x = nn.ConvLocal(4, (2, 2), padding="VALID", name="local")(x)  # → 4
        x = nn.max_pool(x, (2, 2), (2, 2))  # → 2
        x = nn.ConvTranspose(6, (2, 2), (2, 2), padding="VALID", name="transposed")(x)  # → 4
        x = nn.avg_pool(x, (2, 2), (2, 2))  # → 2
        scale = self.param("scale", nn.initializers.ones, (6,))
        shared = nn.Dense(6, name="twice")
        x = shared(nn.relu(shared(x * scale)))
        x = x.mean((1, 2))
        aux = nn.Dense(7, name="aux") if train or self.is_initializing() else None
        if aux:
            aux(x)
        return nn.Dense(5, use_bias=False, name="head")(x), {"features": x}


def test_closed_forms():
    # name: output, parameters, multiply–adds
    expected = {
        "textbook": ((10, 10, 8), 3 * 3 * 3 * 8 + 8, 10 * 10 * 3 * 3 * 3 * 8),
        "depthwise": ((5, 5, 8), 3 * 3 * 8 + 8, 5 * 5 * 3 * 3 * 8),
        "norm": ((5, 5, 8), 16, 0),
        "local": ((4, 4, 4), 4 * 4 * (2 * 2 * 8 * 4 + 4), 4 * 4 * 2 * 2 * 8 * 4),
        "pool1": ((2, 2, 4), 0, 0),
        "transposed": ((4, 4, 6), 2 * 2 * 4 * 6 + 6, 2 * 2 * 2 * 2 * 4 * 6),
        "pool2": ((2, 2, 6), 0, 0),
        "": ((2, 2, 6), 6, 0),
        "twice": ((2, 2, 6), 6 * 6 + 6, 2 * 2 * 2 * 6 * 6),
        "global_pool1": ((6,), 0, 0),
        "head": ((5,), 6 * 5, 6 * 5),
        "aux": (None, 6 * 7 + 7, 0),
    }
    made_of = structure(Parts(), (12, 12, 3))
    found = {layer.name: (layer.output, layer.parameters, layer.macs) for layer in made_of.layers}
    assert found == expected
    assert list(found) == list(expected)  # the network's order
    variables = jax.eval_shape(Parts().init, jax.random.key(0), jnp.zeros((1, 12, 12, 3)))
    assert made_of.parameters == sum(p.size for p in jax.tree.leaves(variables["params"]))


class Unpadded(nn.Module):
    """Convolutions and dense layers alone: all of their arithmetic are multiply–adds."""

    @nn.compact
    def __call__(self, x, *, train=False):
        x = nn.Conv(8, (3, 5), (2, 1), padding="VALID", use_bias=False)(x)
        x = nn.Conv(4, (3, 3), padding="VALID", kernel_dilation=2, use_bias=False)(x)
        x = nn.Conv(8, (2, 2), padding="VALID", feature_group_count=2, use_bias=False)(x)
        return nn.Dense(3, use_bias=False)(x.reshape(len(x), -1)), {}


def test_xla_counts_as_much():
    model, image = Unpadded(), jnp.zeros((1, 16, 16, 3))
    variables = model.init(jax.random.key(0), image)
    flops = jax.jit(model.apply).lower(variables, image).cost_analysis()["flops"]
    assert 2 * structure(model, (16, 16, 3)).macs == flops


def test_norms_and_activations_change_no_multiply_add():
    plain = structure(create_model("resnet20"), (32, 32, 3))
    for switches in ({"norm": "local_response"}, {"norm": "group"}, {"activation": "gelu"}):
        other = structure(create_model("resnet20", **switches), (32, 32, 3))
        assert other.macs == plain.macs
    # A norm that averages over positions sees them all; batch norm's averages are constants.
    grouped = structure(create_model("resnet20", norm="group"), (32, 32, 3))
    sizes = [s.endpoints["stem/act"][0].size for s in (plain, grouped)]
    assert sizes == [3, 32]


def test_padding_with_pixels_of_the_map_is_padding():
    fields = [
        structure(create_model("resnet20", padding=padding), (32, 32, 3)).endpoints
        for padding in ("same", "reflect", "circular")
    ]
    assert fields[0]["stage3/block3/act2"][1].size == 81
    assert fields[0] == fields[1] == fields[2]


def test_vectors_and_stretched_images():
    made_of = structure(create_model("mlp", hidden=(4,)), (13,))
    assert made_of.macs == 13 * 4 + 4 * 10 and made_of.endpoints["logits"] == ()
    tall = structure(create_model("resnet20"), (64, 8, 3)).endpoints["pool"]
    assert [field.size for field in tall] == [64, 8]


class Loop(nn.Module):
    """Three products, or nobody knows how many."""

    known: bool

    @nn.compact
    def __call__(self, x, *, train=False):
        kernel = self.param("kernel", nn.initializers.ones, (3, 3))
        if self.known:
            return jax.lax.fori_loop(0, 3, lambda _, x: x @ kernel, x), {}
        return jax.lax.while_loop(lambda x: x.sum() > 1, lambda x: x @ kernel, x), {}


def test_a_loop_counts_as_often_as_it_steps():
    made_of = structure(Loop(known=True), (4, 4, 3))
    assert made_of.macs == 3 * 4 * 4 * 3 * 3
    with pytest.raises(NotImplementedError, match="while"):
        structure(Loop(known=False), (4, 4, 3))


@pytest.mark.parametrize("remat", [False, True])
@pytest.mark.parametrize(
    ("switches", "gates"), [({"cell": "lstm"}, 4), ({"cell": "gru", "reset_after": False}, 3)]
)
def test_recurrent_networks(switches, gates, remat):
    steps, features, hidden = 11, 3, 5
    model = Recurrent(hidden_size=hidden, num_layers=2, bidirectional=True, remat=remat, **switches)
    made_of = structure(model, (steps, features))
    inputs = {"layer1": features, "layer2": 2 * hidden}
    expected = {
        f"{layer}_{direction}": (
            (steps, hidden),
            (width + hidden + 2) * gates * hidden,
            steps * (width + hidden) * gates * hidden,
        )
        for layer, width in inputs.items()
        for direction in ("forward", "backward")
    }
    found = {layer.name: (layer.output, layer.parameters, layer.macs) for layer in made_of.layers}
    assert found == expected
    assert made_of.endpoints["final_state"][0].size == steps
    assert made_of.endpoints["layer1"][0].size == steps


@pytest.mark.parametrize(("cell", "kernels"), [("min_gru", 2 * 15), ("lru", 2 * 15 + 50 + 15 + 50)])
def test_parallel_cells(cell, kernels):
    made_of = structure(Recurrent(cell, 5), (11, 3))
    assert made_of.macs == 11 * kernels
