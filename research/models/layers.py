"""The layers every network here is made of: convolutions, activations, initialisers and skips.

A model is a `Network`, whose fields are its switches (`norm`, `activation`, `kernel_init`, …), and
asks `Layers` for the layers they describe, so that an arm of an ablation is one changed value.
Arrays are [N, H, W, C] or [N, C]; parameters are made in `param_dtype`, arithmetic is done in
`dtype`, and every norm's statistics in at least float32.
"""

import dataclasses
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from research.config import UserError
from research.models.convolution import convolve
from research.models.norms import has_affine, normalize
from research.models.pooling import pool

SKIPS = ("identity", "projection", "none", "zero_init")

ACTIVATIONS = {
    "relu": nn.relu,
    "relu6": nn.relu6,
    "leaky_relu": nn.leaky_relu,  # slope 0.01 below zero
    "elu": nn.elu,
    "gelu": partial(nn.gelu, approximate=False),  # x Φ(x), not its tanh approximation
    "silu": nn.silu,
    "tanh": nn.tanh,
    "sigmoid": nn.sigmoid,
    "linear": lambda x: x,
}

KERNEL_INITS = {
    "he": nn.initializers.he_normal(),  # He et al. 2015, eq. 10
    "glorot": nn.initializers.glorot_uniform(),  # Glorot & Bengio 2010, eq. 16
    "xavier": nn.initializers.glorot_uniform(),  # the same man's other name
    "lecun": nn.initializers.lecun_normal(),  # LeCun et al. 1998, eq. 16
    "orthogonal": nn.initializers.orthogonal(),  # Saxe et al. 2014
    "normal": nn.initializers.normal(0.01),  # Krizhevsky et al. 2012, §5
    "zeros": nn.initializers.zeros,
}

# What stands around an image where a kernel reaches over its border, as `jnp.pad` calls it.
# "same": zeros, as many as the paper has; "valid": nothing, so that maps shrink; "same_upper":
# zeros, the odd one below and to the right (ONNX's name for what TensorFlow calls "SAME").
PADDINGS = {
    "same": "constant",
    "valid": None,
    "reflect": "reflect",
    "circular": "wrap",
    "same_upper": "constant",
}


def window_output(
    shape: tuple[int, int],
    size: tuple[int, int],
    strides: int,
    padding: tuple[tuple[int, int], tuple[int, int]],
    dilation: int = 1,
    *,
    name: str = "",
) -> tuple[int, int]:
    """The size of the map that a window leaves of an image: ⌊(n − f + p)/s⌋ + 1 for each axis,
    with f = (size − 1)·dilation + 1 and p the padding on both sides together.

    Raises:
        UserError: nothing is left; with this sum in it.
    """
    output = []
    for n, f, (before, after) in zip(shape, size, padding, strict=True):
        f = (f - 1) * dilation + 1
        left = (n - f + before + after) // strides + 1
        if left < 1:
            raise UserError(
                f"model.name: layer {name!r} cannot be: a window of {f} pixels, strides {strides}, "
                f"on a map of {shape[0]}×{shape[1]} leaves ⌊({n} − {f} + {before + after}) / "
                f"{strides}⌋ + 1 = {left} pixels, expected at least 1; give larger images "
                "(data.image_size), or more padding"
            )
        output.append(left)
    return output[0], output[1]


@dataclasses.dataclass(frozen=True)
class Layers:
    """The layers that a model's switches describe; its methods make submodules where called."""

    norm: str
    norm_groups: int
    norm_epsilon: float
    norm_momentum: float
    activation: str
    use_bias: bool | None
    kernel_init: str
    dtype: Any
    param_dtype: Any
    train: bool
    padding: str = "same"
    pool: str = "max"

    @classmethod
    def of(cls, model: nn.Module, train: bool) -> "Layers":
        """The layers of `model`."""
        names = {f.name for f in dataclasses.fields(cls)} & {
            f.name for f in dataclasses.fields(model)
        }
        return cls(**{name: getattr(model, name) for name in names}, train=train)

    def bias(self, normed: bool) -> bool:
        """Whether a kernel has a bias: by default exactly where the norm after it has none."""
        if self.use_bias is not None:
            return self.use_bias
        return not (normed and has_affine(self.norm))

    def sides(
        self, x: Array, size: tuple[int, int], strides: int, padding: tuple[int, int], dilation: int
    ) -> tuple[tuple[int, int], tuple[int, int]]:
        """The pixels above and below, left and right of `x` that `padding` in the paper becomes."""
        if self.padding == "valid":
            return (0, 0), (0, 0)
        if self.padding == "same_upper" and any(padding):
            needed = [
                max(0, (-(-n // strides) - 1) * strides + (f - 1) * dilation + 1 - n)
                for n, f in zip(x.shape[1:3], size, strict=True)
            ]
            return tuple((total // 2, total - total // 2) for total in needed)
        return tuple((p, p) for p in padding)

    def conv(
        self,
        x: Array,
        features: int,
        size: int | tuple[int, int],
        strides: int = 1,
        *,
        name: str,
        padding: int | tuple[int, int] | None = None,
        groups: int = 1,
        dilation: int = 1,
        normed: bool = True,
        shared: bool = True,
    ) -> Array:
        """Convolve: [N, H, W, C] → [N, H', W', features].

        Args:
            x: images or feature maps.
            features: the number of filters.
            size: of the kernel, in pixels: a side, or (height, width).
            strides: pixels between the places of the kernel.
            name: of the submodule.
            padding: pixels on both sides; by default half the kernel, which keeps the size of a
                map: strides of 2 then centre a 3×3 kernel on the very pixels that subsampling keeps
                ('same_upper' is one pixel off). The switch `padding` says what these pixels are.
            groups: of channels, each convolved by itself; as many as channels: depthwise.
            dilation: pixels between the taps of the kernel, plus one.
            normed: whether the norm follows.
            shared: whether all positions share one kernel; without, the layer is locally connected.

        Raises:
            UserError: nothing is left of the map, or less to reflect than there is to pad.
        """
        size = (size, size) if isinstance(size, int) else size
        if padding is None:
            padding = tuple(((f - 1) * dilation + 1) // 2 for f in size)
        elif isinstance(padding, int):
            padding = (padding, padding)
        sides = self.sides(x, size, strides, padding, dilation)
        around = self.padding in ("reflect", "circular") and any(padding)
        conv = partial(nn.Conv, conv_general_dilated=convolve) if shared else nn.ConvLocal
        layer = conv(
            features,
            size,
            strides,
            padding=((0, 0), (0, 0)) if around else sides,
            kernel_dilation=dilation,
            feature_group_count=groups,
            use_bias=self.bias(normed),
            kernel_init=KERNEL_INITS[self.kernel_init],
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name=name,
        )
        name = "/".join(layer.path)
        window_output(x.shape[1:3], size, strides, sides, dilation, name=name)
        if around:
            for n, p in zip(x.shape[1:3], padding, strict=True):
                if p > n - (self.padding == "reflect"):
                    raise UserError(
                        f"model.padding: found {self.padding!r}, but layer {name!r} pads {p} "
                        f"pixels to a map of {n}; expected larger images, or 'same'"
                    )
            x = jnp.pad(x, ((0, 0), *sides, (0, 0)), mode=PADDINGS[self.padding])
        return layer(x)

    def dense(self, x: Array, features: int, *, name: str, normed: bool = True) -> Array:
        """A fully connected layer, `normed` where the norm follows: [N, D] → [N, features]."""
        return nn.Dense(
            features,
            use_bias=self.bias(normed),
            kernel_init=KERNEL_INITS[self.kernel_init],
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name=name,
        )(x)

    def normalize(self, x: Array, *, name: str) -> Array:
        """The norm; see `normalize`."""
        return normalize(
            x,
            self.norm,
            train=self.train,
            groups=self.norm_groups,
            epsilon=self.norm_epsilon,
            momentum=self.norm_momentum,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name=name,
        )

    def activate(self, x: Array) -> Array:
        """The activation function."""
        return ACTIVATIONS[self.activation](x)

    def subsample(
        self,
        x: Array,
        size: int,
        strides: int,
        padding: int = 0,
        *,
        name: str,
        ceil: bool = False,
    ) -> Array:
        """Pool by the kind that the switch `pool` names: [N, H, W, C] → [N, H', W', C].

        Args:
            x: feature maps.
            size: of the window, in pixels.
            strides: pixels between windows.
            padding: pixels on every side; none with padding='valid'.
            name: for error messages.
            ceil: whether a last window that reaches over the border is kept (Caffe's rounding).
        """
        sides = self.sides(x, (size, size), strides, (padding, padding), 1)
        if ceil and self.padding != "valid":
            sides = tuple(
                (before, after + -(n + before + after - size) % strides)
                for n, (before, after) in zip(x.shape[1:3], sides, strict=True)
            )
        window_output(x.shape[1:3], (size, size), strides, sides, name=name)
        return pool(x, self.pool, size, strides, sides)

    def dropout(self, x: Array, rate: float, *, name: str, spatial: bool = False) -> Array:
        """Zero a share `rate` of the units in training and scale the others up; `spatial`: whole
        feature maps (Tompson et al. 2015, §3.2). Draws from the key `dropout`.
        """
        dims = (1, 2) if spatial else ()
        return nn.Dropout(rate, broadcast_dims=dims, deterministic=not self.train, name=name)(x)

    def logits(self, x: Array, num_classes: int, *, name: str = "head") -> Array:
        """The last layer, always with a bias and in at least float32: [N, D] → [N, num_classes]."""
        return nn.Dense(
            num_classes,
            kernel_init=KERNEL_INITS[self.kernel_init],
            dtype=jnp.promote_types(self.dtype, jnp.float32),
            param_dtype=self.param_dtype,
            name=name,
        )(x)


class ConvNormAct(nn.Module):
    """A convolution, its norm and its activation, the unit of most networks since 2015.

    [N, H, W, C] → [N, H', W', features]. See `Layers.conv` for the fields.
    """

    features: int
    size: int | tuple[int, int]
    strides: int = 1
    padding: int | tuple[int, int] | None = None
    groups: int = 1
    activate: bool = True
    layer: Layers | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = self.layer.conv(
            x,
            self.features,
            self.size,
            self.strides,
            padding=self.padding,
            groups=self.groups,
            name="conv",
        )
        x = self.layer.normalize(x, name="norm")
        return self.layer.activate(x) if self.activate else x


class Skip(nn.Module):
    """Add what entered a residual branch to what came out of it.

    - identity: no parameters; where the branch changes the shape, its input is subsampled and
      padded with channels of zeros, half before and half after (He et al. 2015, option A).
    - projection: there, a 1×1 convolution and a norm; identity elsewhere (option B).
    - zero_init: identity, and the branch multiplied by one learned scalar, `scale`, that starts
      at 0 (SkipInit: De & Smith 2020).
    - none: the branch alone, a plain network.
    """

    kind: str
    strides: int
    layer: Layers

    @nn.compact
    def __call__(self, x: Array, branch: Array) -> Array:
        if self.kind == "none":
            return branch
        if self.kind == "zero_init":
            scale = self.param("scale", nn.initializers.zeros, (), self.layer.param_dtype)
            branch = branch * scale.astype(branch.dtype)
        features = branch.shape[-1]
        if x.shape == branch.shape:
            shortcut = x
        elif self.kind == "projection":
            shortcut = self.layer.conv(x, features, 1, self.strides, name="conv")
            shortcut = self.layer.normalize(shortcut, name="norm")
        else:
            subsampled = x[:, :: self.strides, :: self.strides]
            extra = features - x.shape[-1]
            sides = (extra // 2, extra - extra // 2)  # as the published CIFAR ResNets have them
            shortcut = jnp.pad(subsampled, [(0, 0), (0, 0), (0, 0), sides])
        return shortcut + branch
