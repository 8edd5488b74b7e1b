"""Keras's own VGG-16, ResNet-50, Inception v3, Xception and MobileNet beside ours.

    pip install keras
    KERAS_BACKEND=jax python tests/benchmarks/keras_zoo.py [vgg16 resnet50 …]

For each, Keras's random variables are copied into our network, which must then give its logits, its
gradients and its new batch statistics, in float64 because a ReLU that flips moves a gradient. Then
both are timed in float32, forward and in a training step of SGD, jitted, on batches of 8 in
interleaved pairs. Ratios are ours over Keras's, of wall time and of processor time, which other
work on the machine disturbs less.

Two of Keras's networks compute something else than torchvision's and ours, and are changed here to
agree: ResNet-50 has its strides in the first 1×1 of a block ("v1"), not in the 3×3 ("v1.5"), and in
Inception v3 norms have no scale and averages of 3×3 do not count the zeros around a map. "Same" in
Keras puts the odd pixel of padding below: 'same_upper' here, or no odd pixel at these sizes. Images
have half the papers' side or less; but VGG-16's dense layers fix it.
"""

import re
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import keras
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import Array
from keras.src.backend.common import dtypes

from research.models import create_model

BATCH, PAIRS, RATE = 8, 3, 1e-3
TOLERANCE = 1e-9  # of float64


class Case(NamedTuple):
    """A network of Keras, the same of ours, and what Keras's layers are called in ours."""

    theirs: Callable[..., keras.Model]
    side: int
    switches: dict[str, Any]
    names: tuple[tuple[str, str | Callable[[re.Match], str]], ...] = ()
    options: dict[str, Any] = {}  # noqa: RUF012


PROJECTED = ("block1", "block2", "block3", "block12")  # of Xception
TENSORFLOW = {"norm_epsilon": 1e-3, "norm_momentum": 0.99, "dropout": 0.0}

CASES = {
    "vgg16": Case(
        keras.applications.VGG16,
        224,
        {"dropout": 0.0},
        (
            (r"block(\d)_conv(\d)", r"conv\1_\2"),
            (r"fc(\d)", r"dense\1"),
        ),
    ),
    "resnet50": Case(
        keras.applications.ResNet50,
        97,
        {"use_bias": True, "norm_epsilon": 1.001e-5, "norm_momentum": 0.99},
        (
            (r"conv1_conv", "stem"),
            (r"conv1_bn", "stem_norm"),
            (r"conv(\d)_block(\d)_0_", lambda m: f"stage{int(m[1]) - 1}_block{m[2]}/skip/"),
            (
                r"conv(\d)_block(\d)_(\d)_(\w+)",
                lambda m: f"stage{int(m[1]) - 1}_block{m[2]}/{m[4].replace('bn', 'norm')}{m[3]}",
            ),
            (r"skip/bn", "skip/norm"),
        ),
    ),
    "inception_v3": Case(
        keras.applications.InceptionV3,
        107,
        TENSORFLOW | {"aux_heads": False},
        (  # numbered as made; ours are found by their own order
            (r"conv2d_?(\d*)", lambda m: f"#{int(m[1] or 0)}/conv"),
            (r"batch_normalization_?(\d*)", lambda m: f"#{int(m[1] or 0)}/norm"),
        ),
    ),
    "xception": Case(
        keras.applications.Xception,
        107,
        TENSORFLOW | {"padding": "same_upper"},
        (
            (r"block1_conv(\d)_bn", r"norm\1"),
            (r"block1_conv(\d)", r"conv\1"),
            (r"block14_sepconv(\d)_bn", lambda m: f"norm{int(m[1]) + 2}"),
            (r"block14_sepconv(\d)", lambda m: f"conv{int(m[1]) + 2}"),
            (r"block(\d+)_sepconv(\d)_bn", lambda m: f"block{int(m[1]) - 1}/norm{m[2]}"),
            (r"block(\d+)_sepconv(\d)", lambda m: f"block{int(m[1]) - 1}/conv{m[2]}"),
            (r"conv2d_?(\d*)", lambda m: f"{PROJECTED[int(m[1] or 0)]}/skip/conv"),
            (r"batch_normalization_?(\d*)", lambda m: f"{PROJECTED[int(m[1] or 0)]}/skip/norm"),
            (r"(depth|point)wise_kernel", r"\1wise/kernel"),
        ),
    ),
    "mobilenet_v1": Case(
        keras.applications.MobileNet,
        96,
        TENSORFLOW | {"padding": "same_upper"},
        (
            (r"conv1_bn", "stem/norm"),
            (r"conv1", "stem/conv"),
            (r"conv_dw_(\d+)_bn", r"block\1/depthwise/norm"),
            (r"conv_dw_(\d+)", r"block\1/depthwise/conv"),
            (r"conv_pw_(\d+)_bn", r"block\1/pointwise/norm"),
            (r"conv_pw_(\d+)", r"block\1/pointwise/conv"),
            (r"conv_preds", "head"),
        ),
        {"dropout": 0.0},
    ),
}
LEAVES = {
    "gamma": ("params", "scale"),
    "beta": ("params", "bias"),
    "moving_mean": ("batch_stats", "mean"),
    "moving_variance": ("batch_stats", "var"),
}


class AverageWithPadding(keras.layers.Layer):
    """The mean of 3×3 pixels, the zeros around the map among them."""

    def call(self, x):
        """Average [N, H, W, C]."""
        x = keras.ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        return keras.ops.average_pool(x, 3, 1, "valid")


def as_torchvision(layer: keras.Layer) -> keras.Layer:
    """The layer of Keras, or what torchvision has in its place."""
    config = layer.get_config()
    if isinstance(layer, keras.layers.AveragePooling2D):
        return AverageWithPadding(name=config["name"])
    if isinstance(layer, keras.layers.BatchNormalization):
        config["scale"] = True
    if moved := re.fullmatch(r"conv[345]_block1_([12])_conv", config["name"]):
        config["strides"] = (1, 1) if moved[1] == "1" else (2, 2)
    return layer.from_config(config)


def keras_model(case: Case, key: np.random.Generator) -> keras.Model:
    """Keras's network with random variables, so that no layer fades and no norm is idle."""
    model = case.theirs(
        weights=None,
        input_shape=(case.side, case.side, 3),
        classifier_activation=None,
        **case.options,
    )
    if case.theirs in (keras.applications.ResNet50, keras.applications.InceptionV3):
        model = keras.models.clone_model(model, clone_function=as_torchvision)
    for variable in model.variables:
        if variable.name in ("gamma", "moving_variance"):
            variable.assign(key.uniform(0.5, 1.5, variable.shape))
        elif variable.name in ("bias", "beta", "moving_mean"):
            variable.assign(0.1 * key.standard_normal(variable.shape))
        elif variable.name.endswith("kernel"):  # of He et al. 2015: no layer fades
            fan_in = np.prod(variable.shape[: 2 if variable.shape[-1] == 1 else -1])
            variable.assign(key.standard_normal(variable.shape) * (2 / fan_in) ** 0.5)
    return model


def ours_from(case: Case, template: dict[str, Any], order: list[str]) -> Callable[..., Any]:
    """A function of Keras's variables, path → array, to ours, as `template` has them."""
    shapes = {"/".join(path): leaf.shape for path, leaf in flatten_dict(template).items()}

    def rename(path: str) -> str:
        *_, layer, leaf = path.split("/")
        collection, leaf = LEAVES.get(leaf, ("params", leaf))
        name = f"{layer}/{leaf}"
        for pattern, replacement in (*case.names, ("predictions", "head")):
            name = re.sub(rf"(?<!\w){pattern}", replacement, name)
        name = re.sub(r"#(\d+)", lambda m: order[int(m[1])], name)
        return f"{collection}/{name}"

    def convert(variables: dict[str, Array]) -> dict[str, Any]:
        renamed = {rename(path): value for path, value in variables.items()}
        assert renamed.keys() == shapes.keys(), renamed.keys() ^ shapes.keys()
        return unflatten_dict(
            {tuple(k.split("/")): v.reshape(shapes[k]) for k, v in renamed.items()}
        )

    return convert


def pairs(ours: Callable[[], Any], theirs: Callable[[], Any]) -> str:
    """Time both in turn, and describe the ratios."""
    for function in (ours, theirs):
        jax.block_until_ready(function())
    wall, cpu = [], []
    for pair in range(PAIRS):
        seconds = {}
        for function in (ours, theirs) if pair % 2 else (theirs, ours):
            began = time.perf_counter(), time.process_time()
            jax.block_until_ready(function())
            seconds[function] = time.perf_counter() - began[0], time.process_time() - began[1]
        wall.append((seconds[ours][0], seconds[theirs][0]))
        cpu.append(seconds[ours][1] / seconds[theirs][1])
    ratios = sorted(a / b for a, b in wall)
    medians = [1000 * statistics.median(times) for times in zip(*wall, strict=True)]
    return (
        f"{medians[0]:.0f} against {medians[1]:.0f} ms, ratio {statistics.median(ratios):.2f} "
        f"({ratios[0]:.2f} to {ratios[-1]:.2f}), of processor time {statistics.median(cpu):.2f}"
    )


def networks(
    name: str, case: Case, dtype: str
) -> tuple[tuple[Callable, Callable, Any], tuple[Callable, Callable, Any], Callable]:
    """Both networks with the same variables.

    Returns:
        ours and theirs: each `forward(state, images)` → logits, `step(state, images, labels)` →
        (gradients, new state), and its state, a pair of what is trained and what is not;
        and a function of Keras's pair that returns ours.
    """
    keras.utils.clear_session()  # its counters are in the names of layers
    keras.config.set_floatx(dtype)  # of inputs
    dtypes.BIT64_TO_BIT32_DTYPE.clear()  # or its batch norm makes float64 float32
    keras.config.set_dtype_policy(dtype)
    keras_net = keras_model(case, np.random.default_rng(0))
    model = create_model(name, **case.switches, dtype=dtype, param_dtype=dtype)
    order: list[str] = []

    def init(key: Array) -> dict[str, Any]:
        variables = model.init(key, jnp.zeros((1, case.side, case.side, 3), dtype))
        for *module, last, _leaf in flatten_dict(variables["params"]):
            if last == "conv":
                order.append("/".join(module))
        return variables

    paths = [v.path for v in keras_net.trainable_variables + keras_net.non_trainable_variables]
    rename = ours_from(case, jax.eval_shape(init, jax.random.key(0)), order)

    def convert(trained: list[Array], fixed: list[Array]) -> tuple[Any, Any]:
        variables = rename(dict(zip(paths, [*trained, *fixed], strict=True)))
        return variables["params"], variables.get("batch_stats", {})

    def ours(params, stats, images, train):
        (logits, _), updates = model.apply(
            {"params": params, "batch_stats": stats}, images, train=train, mutable="batch_stats"
        )
        return logits, updates.get("batch_stats", {})

    def theirs(trained, fixed, images, train):
        return keras_net.stateless_call(trained, fixed, images, training=train)

    # What is timed is compiled as usual; what is only compared, as fast as the compiler can.
    options = {"xla_backend_optimization_level": 0} if dtype == "float64" else None
    jit = partial(jax.jit, compiler_options=options)

    def functions(network):
        @jit
        def forward(state, images):
            return network(*state, images, False)[0]

        @jit
        def step(state, images, labels):
            def loss(trained, fixed):
                logits, fixed = network(trained, fixed, images, True)
                own = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1)
                return -own.mean(), fixed

            gradients, fixed = jax.grad(loss, has_aux=True)(*state)
            return gradients, (jax.tree.map(lambda p, g: p - RATE * g, state[0], gradients), fixed)

        return forward, step

    state = (
        [v.value for v in keras_net.trainable_variables],
        [v.value for v in keras_net.non_trainable_variables],
    )
    return (*functions(ours), convert(*state)), (*functions(theirs), state), convert


def batch(case: Case, dtype: str, size: int) -> tuple[Array, Array]:
    """Noise for images, and labels."""
    key = np.random.default_rng(1)
    images = key.standard_normal((size, case.side, case.side, 3))
    return jnp.asarray(images, dtype), jnp.asarray(key.integers(0, 1000, size))


def distance(ours: Any, theirs: Any) -> float:
    """‖ours − theirs‖ / ‖theirs‖ over all leaves; 0 where there are none."""
    leaves = list(zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True))
    norm = sum(float(jnp.sum(b**2)) for _, b in leaves)
    return (sum(float(jnp.sum((a - b) ** 2)) for a, b in leaves) / norm) ** 0.5 if norm else 0.0


def agree(name: str, case: Case) -> None:
    """Print how far apart the two networks are in float64."""
    (forward, step, state), (their_forward, their_step, their_state), convert = networks(
        name, case, "float64"
    )
    images, labels = batch(case, "float64", 2)
    a, b = forward(state, images), their_forward(their_state, images)
    gradients, (_, stats) = step(state, images, labels)
    their_gradients, (_, their_stats) = their_step(their_state, images, labels)
    their_gradients, their_stats = convert(their_gradients, their_stats)
    found = {
        "logits": float(jnp.abs(a - b).max() / jnp.abs(b[0] - b[1]).max()),
        "gradients": distance(gradients, their_gradients),
        "statistics": distance(stats, their_stats),
    }
    print(f"{name}, {case.side}×{case.side}: relative differences")
    print("  " + ", ".join(f"{k} {v:.1e}" for k, v in found.items()), flush=True)
    assert max(found.values()) < TOLERANCE


def race(name: str, case: Case) -> None:
    """Print the time of both in float32."""
    (forward, step, state), (their_forward, their_step, their_state), _ = networks(
        name, case, "float32"
    )
    images, labels = batch(case, "float32", BATCH)
    for what, ours, theirs, arguments in (
        ("forward", forward, their_forward, (images,)),
        ("training", step, their_step, (images, labels)),
    ):
        both = pairs(lambda: ours(state, *arguments), lambda: theirs(their_state, *arguments))  # noqa: B023
        print(f"  {what:8} {both}", flush=True)


def main() -> None:
    """Compare the networks named, or all."""
    jax.config.update("jax_enable_x64", True)
    for name in sys.argv[1:] or CASES:
        agree(name, CASES[name])
        race(name, CASES[name])


if __name__ == "__main__":
    main()
