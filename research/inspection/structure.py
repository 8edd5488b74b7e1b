"""What a model is made of: output size, parameters, multiply–adds and receptive field per layer.

    for layer in structure(create_model("vgg16"), (224, 224, 3)).layers:
        print(layer.name, layer.output, layer.parameters, layer.macs, layer.fields)

All of it is read off the model's jaxpr, the program that JAX traces of it, so that it holds for any
model and any lowering of its layers; nothing is computed or compiled.

- Receptive fields (see `research.inspection.receptive_field`) are followed through convolutions,
  pooling, slices and all that leaves positions alone. Branches that meet are seen together. What
  mixes positions otherwise, as do a dense layer and a norm that averages over them (group, layer,
  instance), sees the whole map. A border of the map's own pixels (padding 'reflect', 'circular')
  counts as padding. A scan's state, and hence a recurrent network, sees all steps of a sequence.
- Multiply–adds (MACs) are those of activations with parameters in convolutions and dense layers,
  for one image and with the padding, as papers count them, in a scan as often as it steps; biases,
  norms, activations and pooling have none.
"""

import dataclasses
import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.traverse_util import flatten_dict
from jax.extend.core import Literal

from research.inspection.jaxpr import follow
from research.inspection.receptive_field import Field
from research.models.network import Network

_CALLS = ("jaxpr", "call_jaxpr", "fun_jaxpr")  # where an equation keeps the function that it calls
_UNKNOWN = ("while", "cond")  # how often their functions are called is known in running only
BATCH = 2  # images that are traced: with one, reshapes would not tell its axis from a map of 1×1


@dataclasses.dataclass
class Layer:
    """A module with parameters of its own, or a pooling (`pool1`, …, `global_pool1`).

    Attributes:
        name: its path in the model.
        parameters: how many numbers it learns.
        macs: multiply–adds for one image.
        output: its shape without the batch; None where evaluation does not use the layer.
        fields: what its units see, for each spatial axis of the image.
    """

    name: str
    parameters: int = 0
    macs: int = 0
    output: tuple[int, ...] | None = None
    fields: tuple[Field, ...] = ()


class Structure(NamedTuple):
    """What a model is made of.

    Attributes:
        layers: in the order of their use; those that evaluation does not use come last.
        endpoints: the fields of each of the model's endpoints.
    """

    layers: list[Layer]
    endpoints: dict[str, tuple[Field, ...]]

    @property
    def parameters(self) -> int:
        """How many numbers the model learns."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def macs(self) -> int:
        """Multiply–adds for one image."""
        return sum(layer.macs for layer in self.layers)


class _Value(NamedTuple):
    """What is known of an array."""

    fields: tuple[Field, ...] | None = None  # None: it does not depend on the image
    learned: bool = False  # whether it depends on parameters


def structure(
    model: nn.Module, shape: Sequence[int], dtype: Any = jnp.float32, **others: Any
) -> Structure:
    """Return what `model` is made of when it evaluates one image of `shape`, [H, W, C].

    Args:
        model: called with images and `train`, it returns `(output, endpoints)`.
        shape: of an image; all axes but the last are spatial.
        dtype: of its pixels.
        others: what else the model is called with, as shapes of a batch of `BATCH`.

    Raises:
        UserError: the model refuses such an image.
        NotImplementedError: the image goes through a loop of unknown length or a conditional.
    """
    images = jax.ShapeDtypeStruct((BATCH, *shape), dtype)
    if isinstance(model, Network):
        model = model.clone(kernel_init="zeros")  # as large as any, and the quickest to trace
    init, apply = partial(model.init, train=False), partial(model.apply, train=False)
    variables = jax.eval_shape(init, jax.random.key(0), images, **others)
    traced = jax.make_jaxpr(apply, return_shape=True)(variables, images, **others)
    closed, (_, endpoints) = traced

    sizes: dict[str, int] = {}
    for path, parameter in flatten_dict(variables.get("params", {})).items():
        module = "/".join(path[:-1])
        sizes[module] = sizes.get(module, 0) + parameter.size
    pixels = tuple(Field(1, 1, 0, axis + 1) for axis in range(len(shape) - 1))
    walk = _Walk(sizes, tuple(shape[:-1]))
    arguments = [
        _Value(learned=kind.key == "params")
        for (kind, *_), _ in jax.tree_util.tree_leaves_with_path(variables)
    ]
    arguments += [_Value(pixels), *(_Value() for _ in jax.tree.leaves(others))]
    outputs = walk.run(closed.jaxpr, arguments, "")
    seen = jax.tree.unflatten(jax.tree.structure((0, endpoints)), outputs)[1]
    fields = {  # of an endpoint of several arrays, the first one's
        name: jax.tree.leaves(value, is_leaf=lambda v: isinstance(v, _Value))[0].fields or ()
        for name, value in seen.items()
    }
    return Structure(walk.layers(), {name: fields[name] for name in endpoints})


class _Walk:
    """Goes through a jaxpr equation by equation and notes what it learns of each layer."""

    def __init__(self, sizes: dict[str, int], image: tuple[int, ...]):
        """Of a model whose modules have `sizes` parameters, and of images of so many pixels."""
        self._sizes, self._image = sizes, image
        self._outer = {  # modules around those with parameters
            name[:i] for name in sizes for i, letter in enumerate(name) if letter == "/"
        }
        self._layers: dict[str, Layer] = {}

    def run(self, jaxpr: Any, arguments: list[_Value], around: str, times: int = 1) -> list[_Value]:
        """Return what is known of the results; `around` is the scope of the call, and `times` how
        often it is made.
        """
        values = dict(zip(jaxpr.invars, arguments, strict=True))

        def known(variable):  # constants of the jaxpr and literals are nobody's
            return _Value() if isinstance(variable, Literal) else values.get(variable, _Value())

        for eqn in jaxpr.eqns:
            operands = [known(v) for v in eqn.invars]
            scope = "/".join(s for s in (around, str(eqn.source_info.name_stack)) if s)
            seen = any(v.fields is not None for v in operands)
            called = next((eqn.params[k] for k in _CALLS if k in eqn.params), None)
            if seen and eqn.primitive.name in _UNKNOWN:
                raise NotImplementedError(f"{scope}: receptive field of {eqn.primitive.name!r}")
            if seen and eqn.primitive.name == "scan":
                inside = self._everywhere(eqn, operands)
                results = self.run(called.jaxpr, inside, scope, times * eqn.params["length"])
            elif seen and called is not None:
                results = self.run(getattr(called, "jaxpr", called), operands, scope, times)
            else:
                fields = self._see(eqn, operands) if seen else None
                results = [_Value(fields, any(v.learned for v in operands))] * len(eqn.outvars)
                if seen:
                    self._note(eqn, operands, fields, scope, times)
            values |= dict(zip(eqn.outvars, results, strict=True))
        return [known(v) for v in jaxpr.outvars]

    def layers(self) -> list[Layer]:
        """Return the layers, with their parameters."""
        for name, size in self._sizes.items():
            self._layers.setdefault(name, Layer(name)).parameters = size
        return list(self._layers.values())

    def _everywhere(self, eqn: Any, operands: list[_Value]) -> list[_Value]:
        """What is known inside a scan: its state, and what it reads of the image, sees it whole."""
        image = tuple(Field(pixels, 0, 0, None) for pixels in self._image)
        if "ft_in" in eqn.params:  # from jax 0.12 on: constants, state, inputs
            first, carried, _ = (len(part) for part in eqn.params["ft_in"].unpack())
        else:
            first, carried = eqn.params["num_consts"], eqn.params["num_carry"]
        state = range(first, first + carried)
        return [
            v if v.fields is None and i not in state else _Value(image, v.learned)
            for i, v in enumerate(operands)
        ]

    def _see(self, eqn: Any, operands: list[_Value]) -> tuple[Field, ...]:
        """What an equation's results see."""
        return tuple(
            follow(eqn, [v.fields and v.fields[axis] for v in operands], pixels)
            for axis, pixels in enumerate(self._image)
        )

    def _note(
        self, eqn: Any, operands: list[_Value], fields: tuple[Field, ...], scope: str, times: int
    ):
        """Put an equation down to its layer; the last one's result is the layer's output."""
        # "ResNet/stage1_block1/conv1": a class, again where one of its methods calls another, then
        # modules (with their method if it is named).
        whole, *parts = (part.split(".")[0] for part in scope.split("/"))
        path = "/".join(part for part in parts if part != whole)
        name, macs = self._leaf(path), times * _macs(eqn, operands)
        if name is None and any(v.learned and v.fields is None for v in operands):
            name = path if macs or path in self._sizes else None
        if name is None and (kind := self._pooling(eqn, operands)):
            prefix = f"{path}/{kind}" if path else kind
            count = sum(layer.rstrip("0123456789") == prefix for layer in self._layers)
            name = f"{prefix}{count + 1}"
        if name is None:
            return
        layer = self._layers.setdefault(name, Layer(name))
        layer.macs += macs // BATCH
        layer.output, layer.fields = eqn.outvars[0].aval.shape[1:], fields

    def _leaf(self, path: str) -> str | None:
        """The module around `path` that has parameters of its own and no modules with some."""
        while path and path not in self._sizes:
            path = path.rpartition("/")[0]
        return path if path and path not in self._outer else None

    def _pooling(self, eqn: Any, operands: list[_Value]) -> str | None:
        """What kind of pooling an equation is, if any."""
        primitive, fields = eqn.primitive.name, operands[0].fields
        axes = {f.axis for f in fields or ()} - {None}
        if primitive.startswith("reduce_window"):
            windows = eqn.params["window_dimensions"]
            return "pool" if any(windows[axis] > 1 for axis in axes) else None
        if primitive.startswith("reduce_") and axes and axes <= set(eqn.params.get("axes", ())):
            return "global_pool"
        return None


def _macs(eqn: Any, operands: list[_Value]) -> int:
    """The multiply–adds of activations with parameters in one equation, for the whole batch."""
    if eqn.primitive.name not in ("conv_general_dilated", "dot_general"):
        return 0
    shapes = [v.aval.shape for v in eqn.invars]
    weights = [i for i, v in enumerate(operands) if v.learned and v.fields is None]
    if len(weights) != 1:
        return 0
    result = eqn.outvars[0].aval.shape
    numbers = eqn.params["dimension_numbers"]
    if eqn.primitive.name == "dot_general":
        return math.prod(result) * math.prod(shapes[0][axis] for axis in numbers[0][0])
    transposed = any(base > 1 for base in eqn.params["lhs_dilation"])
    spec, places = (numbers.lhs_spec, shapes[0]) if transposed else (numbers.out_spec, result)
    # The kernel meets each place of the map once: of its input where it is transposed.
    return math.prod(places) // places[spec[1]] * math.prod(shapes[1])
