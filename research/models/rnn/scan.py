"""A cell over time: one scan, whose weights' gradient and whose memory are seen to."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from research.models.rnn.cells import Cell, State, layer_norm


class Weights(NamedTuple):
    """Of the product of the state with U: kernel [H, n], bias [n] or None."""

    kernel: Array
    bias: Array | None = None


class Pointwise(NamedTuple):
    """What a step reads beside them.

    Attributes:
        vectors: the cell's, [H] each.
        norms: scale and bias [n] (or None) of the layer norm of each product; {}: no norm.
        keep: [B, H], multiplies the state before U does: the mask of recurrent dropout.
    """

    vectors: dict[str, Array]
    norms: dict[str, tuple[Array, Array | None]]
    keep: Array | None = None


class Inputs(NamedTuple):
    """What a layer goes over, [B, T, …], or time first, [T, B, …], in a scan.

    Attributes:
        x: [B, T, …], the input, or its projection.
        mask: bool[B, T], False beyond a sequence's end; None: all steps count.
        nudge: [B, T, H], added to h at each step; None: nothing. The gradient of a loss with
            respect to it is ∂loss/∂h_t.
    """

    x: Array
    mask: Array | None = None
    nudge: Array | None = None


def recurrence(
    cell: Cell,
    weights: dict[str, Weights],
    pointwise: Pointwise,
    inputs: Inputs,
    state: State,
    *,
    reverse: bool = False,
    unroll: int = 1,
    record: bool = False,
) -> tuple[State, tuple[Array, dict[str, Array]]]:
    """Take a cell through time.

    Where `mask` is False the state stays as it is. Hence a reversed scan starts at each sequence's
    own end, and the last state is that of each sequence's own last step.

    Args:
        cell: whose steps these are.
        weights: U, by the names of `cell.products`.
        pointwise: what else a step reads.
        inputs: time first; x is the projection, [T, B, gates·H].
        state: before the first step, [B, H] each.
        reverse: whether time runs from the last step to the first.
        unroll: steps in one iteration of the loop.
        record: whether to return the gates.

    Returns:
        The state after the last step; h at each step, [T, B, H]; the gates, {} without `record`.
    """

    def scan(weights, pointwise, inputs, state, shifts=None, with_operands=False):
        def step(state, now):
            (x, mask, nudge), shift = now
            operands = {}

            def product(name, a):
                a = operands[name] = a if pointwise.keep is None else a * pointwise.keep
                kernel, bias = weights[name]
                y = a @ kernel
                y = y if bias is None else y + bias
                if shift is not None and shift[name] is not None:
                    y = y + shift[name]
                return layer_norm(y, *pointwise.norms[name]) if pointwise.norms else y

            (h, *rest), gates = cell.step(product, pointwise.vectors, x, state)
            new = (h if nudge is None else h + nudge, *rest)
            if mask is not None:
                new = tuple(jnp.where(mask[:, None], n, o) for n, o in zip(new, state, strict=True))
            return new, (new[0], gates if record else {}, operands if with_operands else {})

        state, (h, gates, operands) = lax.scan(
            step, state, (inputs, shifts), reverse=reverse, unroll=unroll
        )
        return (state, (h, gates)), operands

    @jax.custom_jvp
    def run(weights, pointwise, inputs, state):
        return scan(weights, pointwise, inputs, state)[0]

    # The derivative by U at each step, a dU, needs no scan: it is one product of all operands a,
    # which enters the scan's own derivative as a shift of each step's product. Transposed: the
    # gradient of U is one product after the scan, where JAX would add one up step by step.
    @run.defjvp
    def run_jvp(primals, tangents):
        weights, pointwise, inputs, state = primals
        d_weights, d_pointwise, d_inputs, d_state = tangents
        # Where a step sees but the sum of both projections, the input's can be shifted instead.
        summed = cell.summed and not pointwise.norms
        shifts = {
            name: None
            if summed
            else jnp.zeros((*inputs.x.shape[:2], kernel.shape[1]), kernel.dtype)
            for name, (kernel, _) in weights.items()
        }

        def derived(pointwise, x, nudge, state, shifts):
            return scan(weights, pointwise, Inputs(x, inputs.mask, nudge), state, shifts, True)

        result, push, operands = jax.linearize(
            derived, pointwise, inputs.x, inputs.nudge, state, shifts, has_aux=True
        )
        d_shifts = {
            name: operands[name] @ kernel + (0 if bias is None else bias)
            for name, (kernel, bias) in d_weights.items()
        }
        d_x = d_inputs.x
        if summed:
            d_x, d_shifts = d_x + d_shifts["h"], {"h": None}
        return result, push(d_pointwise, d_x, d_inputs.nudge, d_state, d_shifts)

    return run(weights, pointwise, inputs, state)


def in_segments(
    run: Callable[[Any, Any], tuple[Any, Any]],
    state: Any,
    inputs: Any,
    *,
    reverse: bool,
    remat: bool,
) -> tuple[Any, Any]:
    """Equal `run(state, inputs)`, in about √T segments of √T steps, one after another.

    With `remat` nothing is kept for the gradient but the states between them: segments are run
    again when the gradient comes to them, so that the memory taken beside inputs and outputs is
    O(√T) (Chen et al. 2016, "Training deep nets with sublinear memory cost"), for one more forward
    pass.

    Args:
        run: scans inputs [T, …] from a state, whatever T is; returns a state and outputs [T, …].
        state: before the first step.
        inputs: arrays [T, …].
        reverse: whether it scans from the last step to the first.
        remat: whether to run them again.
    """
    steps = jax.tree.leaves(inputs)[0].shape[0]
    size = math.isqrt(steps)
    whole = steps - steps % size
    run = jax.checkpoint(run) if remat else run

    def segments(state, inputs):
        inputs = jax.tree.map(lambda x: x.reshape(-1, size, *x.shape[1:]), inputs)
        state, outputs = lax.scan(run, state, inputs, reverse=reverse)
        return state, jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), outputs)

    if whole == steps:
        return segments(state, inputs)
    first = jax.tree.map(lambda x: x[:whole], inputs)
    last = jax.tree.map(lambda x: x[whole:], inputs)
    if reverse:
        state, ends = run(state, last)
        state, starts = segments(state, first)
    else:
        state, starts = segments(state, first)
        state, ends = run(state, last)
    return state, jax.tree.map(lambda *parts: jnp.concatenate(parts), starts, ends)
