"""Networks of recurrent layers over padded batches of sequences."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from research.config import UserError, unknown
from research.distributed.platform import platform
from research.models.network import check
from research.models.rnn.cells import CELLS, GRU, INITS, LSTM, Cell, State, gate_by_gate, layer_norm
from research.models.rnn.padded import check_sequences, within
from research.models.rnn.parallel import PARALLEL
from research.models.rnn.scan import Inputs, Pointwise, Weights, in_segments, recurrence

ALL_CELLS = (*CELLS, *PARALLEL)
LONG = 64  # steps from which a CPU gains by going in segments


class Recurrent(nn.Module):
    """Layers of a recurrent cell, one above the other, in one or both directions of time.

        model = Recurrent("lstm", 128, num_layers=2, bidirectional=True)
        variables = model.init(key, inputs)
        outputs, endpoints = model.apply(variables, inputs, lengths)
        h, c = endpoints["final_state"]

    Padding changes no result and no gradient, whatever stands there, and outputs beyond a
    sequence's length are 0. A layer's parameters are `layer1_forward/input_kernel` and so on; see
    `research.transfer.rnn_from_torch`.

    Attributes:
        cell: one of `ALL_CELLS`.
        hidden_size: H, the width of the state in one direction.
        num_layers: each above the first reads the outputs of the one below.
        bidirectional: whether each layer also runs from a sequence's end to its start, its outputs
            beside those forward (Schuster & Paliwal 1997).
        dropout: the share of each layer's outputs that the next one does not see in training.
        variational: whether that share is the same at all steps (Gal & Ghahramani 2016).
        recurrent_dropout: the share of the state that U does not see in training, the same at all
            steps (Gal & Ghahramani 2016, eq. 7).
        layer_norm: whether both projections are layer-normed before their bias, and in an LSTM the
            cell before its tanh (Ba et al. 2016, eqs. 20–22).
        batch_norm: whether the input's projection is batch-normed over all sequences and their
            steps (Laurent et al. 2016, "Batch normalized recurrent neural networks").
        residual: whether a layer's input is added to its output where it is as wide (Wu et al.
            2016, §3.1).
        peepholes: of an LSTM; see `LSTM`.
        forget_bias: of an LSTM.
        reset_after: of a GRU; see `GRU`.
        use_bias: whether the projections have biases.
        input_init: how W starts, gate by gate, one of `INITS`; None: the cell's own.
        recurrent_init: how U starts.
        unroll: steps in one iteration of the loop over time; it changes no number.
        remat: whether the gradient computes the steps again, by segments of about √T, rather than
            keep what it needs of all; see `in_segments`. It changes no number.
        dtype: of the arithmetic; the c of an LSTM, norms, and parallel scans in at least float32.
        param_dtype: of the parameters.

    Raises:
        UserError: on construction, for a switch that cannot be, or that the cell does not have; on
            calling, for inputs of another rank, without steps, or for lengths that cannot be.
    """

    cell: str
    hidden_size: int
    num_layers: int = 1
    bidirectional: bool = False
    dropout: float = 0.0
    variational: bool = False
    recurrent_dropout: float = 0.0
    layer_norm: bool = False
    batch_norm: bool = False
    residual: bool = False
    peepholes: bool = False
    forget_bias: float = 1.0
    reset_after: bool = True
    use_bias: bool = True
    input_init: str | None = None
    recurrent_init: str | None = None
    unroll: int = 1
    remat: bool = False
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    def __post_init__(self):
        check(self)
        _check_switches(self)
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        inputs: Array,
        lengths: Array | None = None,
        initial_state: Any = None,
        *,
        train: bool = False,
        record: bool = False,
    ) -> tuple[Array, dict[str, Any]]:
        """Run over sequences.

        Args:
            inputs: [B, T, D].
            lengths: int[B], from 1 to T; None: all are T. Where they are traced, 0 leaves the
                sequence's initial state as its final one, and more than T is T.
            initial_state: what `endpoints["final_state"]` is; None: zeros.
            train: whether to drop out, with the key `dropout`, and to norm by the batch.
            record: whether the endpoints hold every step's gates.

        Returns:
            The last layer's outputs, [B, T, H·directions], and the endpoints:

            - `layer1`, …: each layer's outputs;
            - `final_state`: [layers·directions, B, H], layer by layer, forward before backward,
              each at its sequence's own end (backward: start); of an LSTM a pair of them, (h, c);
            - if `record`, `layer1_forward/forget_gate` and so on: [B, T, H], 0 beyond the end.
        """
        batch, steps = check_sequences(inputs, lengths)
        directions = ("forward", "backward") if self.bidirectional else ("forward",)
        states = self._initial_states(initial_state, self.num_layers * len(directions), batch)
        mask = None if lengths is None else jnp.arange(steps) < lengths[:, None]
        hidden = within(mask, inputs.astype(self.dtype))
        endpoints, finals = {}, []
        for layer in range(1, self.num_layers + 1):
            below = hidden
            if layer > 1:
                over = (1,) if self.variational else ()
                below = nn.Dropout(self.dropout, broadcast_dims=over, name=f"dropout{layer}")(
                    below, deterministic=not train
                )
            outputs = []
            for direction in directions:
                name = f"layer{layer}_{direction}"
                final, (h, gates) = self._direction(
                    name, below, mask, states[len(finals)], train, record
                )
                finals.append(final)
                outputs.append(within(mask, h))
                for gate, value in gates.items() if record else ():
                    endpoints[f"{name}/{gate}"] = within(mask, value)
            outputs = jnp.concatenate(outputs, -1) if self.bidirectional else outputs[0]
            residual = self.residual and hidden.shape == outputs.shape
            hidden = hidden + outputs if residual else outputs
            endpoints[f"layer{layer}"] = hidden
        final = tuple(jnp.stack(part) for part in zip(*finals, strict=True))
        endpoints["final_state"] = final if len(final) > 1 else final[0]
        return hidden, endpoints

    @nn.nowrap
    def _direction(
        self, name: str, x: Array, mask: Array | None, state: State, train: bool, record: bool
    ) -> tuple[State, tuple[Array, dict[str, Array]]]:
        """Run one layer in one direction, [B, T, D] → the last state, [B, T, H] and the gates."""
        kind = PARALLEL.get(self.cell, Direction)
        shared = {f.name for f in dataclasses.fields(kind)} & {
            f.name for f in dataclasses.fields(self)
        }
        fields = {field: getattr(self, field) for field in shared - {"parent", "name"}}
        nudge = self.get_variable("perturbations", name)
        inputs = Inputs(x, mask, nudge)
        reverse = name.endswith("backward")
        if kind is Direction:
            layer = Direction(**fields | {"cell": _cell(self)}, reverse=reverse, name=name)
            return layer(inputs, state, train=train, record=record)
        return kind(**fields, reverse=reverse, name=name)(inputs, state)

    @nn.nowrap
    def _initial_states(self, given: Any, count: int, batch: int) -> list[State]:
        """The state of each layer and direction before its first step."""
        start = PARALLEL[self.cell].start if self.cell in PARALLEL else CELLS[self.cell].start
        zeros = start((batch, self.hidden_size), self.dtype)
        if given is None:
            return [zeros] * count
        given = tuple(given) if isinstance(given, tuple | list) else (given,)
        expected = (count, batch, self.hidden_size)
        shapes = [jnp.shape(part) for part in given]
        if shapes != [expected] * len(zeros):
            pair = "a pair (h, c) of arrays" if len(zeros) > 1 else "an array"
            raise UserError(
                f"initial_state: found shapes {shapes}, expected {pair} [layers·directions, B, H] "
                f"= {list(expected)}"
            )
        given = [jnp.asarray(part, zero.dtype) for part, zero in zip(given, zeros, strict=True)]
        return [tuple(part[i] for part in given) for i in range(count)]


class Direction(nn.Module):
    """One layer in one direction of time, its cell a scan; the fields are those of `Recurrent`."""

    cell: Cell
    hidden_size: int
    reverse: bool
    recurrent_dropout: float
    layer_norm: bool
    batch_norm: bool
    use_bias: bool
    input_init: str | None
    recurrent_init: str | None
    unroll: int
    remat: bool
    dtype: Any
    param_dtype: Any

    @nn.compact
    def __call__(self, inputs: Inputs, state: State, *, train: bool, record: bool):
        cell, width = self.cell, self.cell.gates * self.hidden_size
        inputs = _swap(inputs)  # time first, as scans go
        zeros, ones = nn.initializers.zeros, nn.initializers.ones

        def learned(name, init, *shape):
            return self.param(name, init, shape, self.param_dtype).astype(self.dtype)

        def kernel(name, init, rows):
            return learned(name, gate_by_gate(INITS[init], cell.gates), rows, width)

        w = kernel("input_kernel", self.input_init or cell.input_init, inputs.x.shape[-1])
        u = kernel("recurrent_kernel", self.recurrent_init or cell.recurrent_init, self.hidden_size)
        w_bias = learned("input_bias", cell.bias_init, width) if self.use_bias else None
        u_bias = learned("recurrent_bias", zeros, width) if self.use_bias else None
        if cell.summed and self.use_bias and not (self.layer_norm or self.batch_norm):
            u_bias, w_bias = u_bias + w_bias, None  # one pass less over the projections
        w_scale = learned("input_scale", ones, width) if self.layer_norm else None
        u_scale = learned("recurrent_scale", ones, width) if self.layer_norm else None
        vectors = {k: learned(k, init, self.hidden_size) for k, init in cell.vectors().items()}
        keep = None
        if train and self.recurrent_dropout:
            share = 1 - self.recurrent_dropout
            kept = jax.random.bernoulli(self.make_rng("dropout"), share, state[0].shape)
            keep = kept.astype(self.dtype) / share

        weights, norms = {}, {}
        for name, (first, end) in cell.products().items():
            columns = slice(first * self.hidden_size, end * self.hidden_size)
            bias = None if u_bias is None else u_bias[columns]
            weights[name] = Weights(u[:, columns], None if self.layer_norm else bias)
            if self.layer_norm:
                norms[name] = u_scale[columns], bias
        pointwise = Pointwise(vectors, norms, keep)

        def finish(y):  # the projection x W of all steps at once, before its norm and bias
            if self.layer_norm:
                return layer_norm(y, w_scale, w_bias)
            return y if w_bias is None else y + w_bias

        def run(state, inputs):
            y = inputs.x if self.batch_norm else inputs.x @ w
            return recurrence(
                cell,
                weights,
                pointwise,
                inputs._replace(x=finish(y)),
                state,
                reverse=self.reverse,
                unroll=self.unroll,
                record=record,
            )

        if self.batch_norm:  # which has to see all steps before the first is taken
            norm = nn.BatchNorm(
                momentum=0.9,
                use_bias=False,
                use_fast_variance=False,
                dtype=self.dtype,
                param_dtype=self.param_dtype,
                name="norm",
            )
            mask = None if inputs.mask is None else inputs.mask[..., None]
            y = norm(inputs.x @ w, use_running_average=not train, mask=mask)
            inputs = inputs._replace(x=y)
        # Without a gradient a CPU is faster where the projections of a segment stay in its cache.
        cached = not train and len(inputs.x) >= LONG and platform() == "cpu"
        if self.remat or cached:
            options = {"reverse": self.reverse, "remat": self.remat}
            state, outputs = in_segments(run, state, inputs, **options)
        else:
            state, outputs = run(state, inputs)
        return state, _swap(outputs)


def _swap(tree: Any) -> Any:
    return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), tree)


# Switch -> the cells that have it.
_ONLY = {
    **dict.fromkeys(("peepholes", "forget_bias"), ("lstm",)),
    "reset_after": ("gru",),
    **dict.fromkeys(
        ("recurrent_dropout", "layer_norm", "batch_norm", "recurrent_init", "unroll", "remat"),
        tuple(CELLS),
    ),
}


def _check_switches(model: Recurrent) -> None:
    if model.cell not in ALL_CELLS:
        raise unknown("model.cell", model.cell, ALL_CELLS)
    defaults = {f.name: f.default for f in dataclasses.fields(Recurrent)}
    for switch, cells in _ONLY.items():
        value = getattr(model, switch)
        if model.cell not in cells and value != defaults[switch]:
            raise UserError(
                f"model.{switch}: found {value!r} with model.cell={model.cell!r}, which has none; "
                f"expected a cell among {', '.join(cells)}"
            )
    for switch in ("input_init", "recurrent_init"):
        value = getattr(model, switch)
        if value is not None and value not in INITS:
            raise unknown(f"model.{switch}", value, INITS)
    if model.layer_norm and model.batch_norm:
        raise UserError(
            "model.batch_norm: found True with model.layer_norm=True, expected one norm at most"
        )


def _cell(model: Recurrent) -> Cell:
    cell = CELLS[model.cell]
    if isinstance(cell, LSTM):
        return dataclasses.replace(
            cell,
            forget_bias=model.forget_bias,
            peepholes=model.peepholes,
            layer_norm=model.layer_norm,
        )
    if isinstance(cell, GRU):
        return dataclasses.replace(cell, reset_after=model.reset_after)
    return cell
