"""How a receptive field passes through each of JAX's operations.

A jaxpr's equation has operands that see fields of the image, and a result that sees `follow(…)`.
Operations without a rule here are taken to look at all positions of their operands.
"""

import dataclasses
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from research.inspection.receptive_field import Field, meet, whole, window

# Their results see what their operands do, position by position.
_ELEMENTWISE = {
    "abs", "acos", "acosh", "add", "add_any", "and", "asin", "asinh", "atan", "atan2", "atanh",
    "cbrt", "ceil", "clamp", "convert_element_type", "copy", "cos", "cosh", "div", "eq", "erf",
    "erf_inv", "erfc", "exp", "exp2", "expm1", "floor", "ge", "gt", "integer_pow", "is_finite",
    "le", "lgamma", "log", "log1p", "logistic", "lt", "max", "min", "mul", "name", "ne", "neg",
    "nextafter", "not", "optimization_barrier", "or", "pow", "reduce_precision", "rem", "round",
    "rsqrt", "select_n", "sharding_constraint", "sign", "sin", "sinh", "sqrt", "square",
    "stop_gradient", "sub", "tan", "tanh", "xor",
}  # fmt: skip


def follow(eqn: Any, fields: Sequence[Field | None], pixels: int) -> Field:
    """Return what the result of a jaxpr's equation sees along an axis of the image.

    Args:
        eqn: the equation.
        fields: what each operand sees along that axis; None: it does not depend on the image.
        pixels: the length of the axis.

    Returns:
        All that the operands see; of their whole maps, where the operation has no rule.
    """
    seen = {i: field for i, field in enumerate(fields) if field is not None}
    if eqn.primitive.name == "concatenate":
        seen = _without_borders(eqn, seen, pixels)
    shape = eqn.outvars[0].aval.shape
    return meet([_through(eqn, i, field, pixels) for i, field in seen.items()], shape, pixels)


def _through(eqn: Any, i: int, field: Field, pixels: int) -> Field:
    """What the result sees through operand `i`."""
    if field.axis is None:
        return field
    name = eqn.primitive.name
    if name.startswith("reduce_window"):
        rule = _reduce_window
    elif name.startswith(("reduce_", "arg")) and "axes" in eqn.params:
        rule = _reduce
    else:
        rule = _same if name in _ELEMENTWISE else _RULES.get(name)
    units = eqn.invars[i].aval.shape[field.axis]
    return (rule and rule(eqn, i, field)) or whole(field, units, pixels)


# ---- rules: the result's field, or None where it sees all that the operand does


def _same(eqn, i, field):
    at = field.axis
    return field if eqn.invars[i].aval.shape[at] == eqn.outvars[0].aval.shape[at] else None


def _convolve(eqn, i, field):
    p = eqn.params
    inputs, kernel, outputs = p["dimension_numbers"]
    if i or field.axis not in inputs[2:]:
        return None
    k = inputs.index(field.axis) - 2
    return dataclasses.replace(
        window(
            field,
            size=eqn.invars[1].aval.shape[kernel[2 + k]],
            strides=p["window_strides"][k],
            before=p["padding"][k][0],
            dilation=p["rhs_dilation"][k],
            base=p["lhs_dilation"][k],
        ),
        axis=outputs[2 + k],
    )


def _reduce_window(eqn, i, field):
    p, at = eqn.params, field.axis
    return window(
        field,
        size=p["window_dimensions"][at],
        strides=p["window_strides"][at],
        before=p["padding"][at][0],
        dilation=p["window_dilation"][at],
        base=p["base_dilation"][at],
    )


def _reduce(eqn, i, field):
    return _drop(field, eqn.params["axes"])


def _squeeze(eqn, i, field):
    return _drop(field, eqn.params["dimensions"])


def _drop(field, axes):
    if field.axis in axes:
        return None
    return dataclasses.replace(field, axis=field.axis - sum(a < field.axis for a in axes))


def _product(eqn, i, field):
    contracted, batch = (sides[i] for sides in eqn.params["dimension_numbers"])
    if field.axis in contracted:
        return None
    if field.axis in batch:
        return dataclasses.replace(field, axis=batch.index(field.axis))
    left, right = (v.aval.ndim for v in eqn.invars)
    free = [a for a in range((left, right)[i]) if a not in (*contracted, *batch)]
    others = left - len(contracted) if i else len(batch)  # the result's axes before these
    return dataclasses.replace(field, axis=others + free.index(field.axis))


def _broadcast(eqn, i, field):
    at = eqn.params["broadcast_dimensions"][field.axis]
    if eqn.invars[0].aval.shape[field.axis] != eqn.outvars[0].aval.shape[at]:
        return None
    return dataclasses.replace(field, axis=at)


def _transpose(eqn, i, field):
    return dataclasses.replace(field, axis=eqn.params["permutation"].index(field.axis))


def _reshape(eqn, i, field):
    """An axis that stays, or is split into blocks: the field of a block is that of its units."""
    old, new = eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape
    length, before = old[field.axis], math.prod(old[: field.axis])
    places = [
        a
        for a in range(len(new))
        if math.prod(new[:a]) == before and length % new[a] == 0 and (new[a] > 1 or length == 1)
    ]
    if not places:
        return None
    at = max(places, key=lambda a: new[a])
    block = length // new[at]
    return dataclasses.replace(window(field, size=block, strides=block), axis=at)


def _slice(eqn, i, field):
    at, strides = field.axis, eqn.params["strides"]
    step = strides[at] if strides else 1
    return window(field, size=1, strides=step, before=-eqn.params["start_indices"][at])


def _pad(eqn, i, field):
    before, _, inside = eqn.params["padding_config"][field.axis]
    # What is put in between makes the step finer, as in a transposed convolution.
    step = field.stride if inside == 0 else Fraction(field.stride, inside + 1)
    return dataclasses.replace(field, stride=step, start=field.start - before * step)


def _reverse(eqn, i, field):
    return None if field.axis in eqn.params["dimensions"] else field


def _concatenate(eqn, i, field):
    if field.axis != eqn.params["dimension"]:
        return field
    lengths = [v.aval.shape[field.axis] for v in eqn.invars]
    return window(field, size=1, before=sum(lengths[:i])) if _is_map(lengths, i) else None


def _is_map(lengths, i):
    return 2 * lengths[i] > sum(lengths)


def _without_borders(eqn, seen, pixels):
    """Leave out the pieces along a map that are borders made of its own pixels."""
    at = eqn.params["dimension"]
    lengths = [v.aval.shape[at] for v in eqn.invars]
    longest = lengths.index(max(lengths))
    if not _is_map(lengths, longest) or longest not in seen or seen[longest].axis != at:
        return seen
    map_ = whole(seen[longest], lengths[longest], pixels)
    pieces = [whole(field, lengths[i], pixels) for i, field in seen.items()]
    return {longest: seen[longest]} if meet([map_, *pieces], (), pixels) == map_ else seen


_RULES = {
    "conv_general_dilated": _convolve,
    "dot_general": _product,
    "broadcast_in_dim": _broadcast,
    "transpose": _transpose,
    "squeeze": _squeeze,
    "reshape": _reshape,
    "slice": _slice,
    "pad": _pad,
    "rev": _reverse,
    "concatenate": _concatenate,
}
