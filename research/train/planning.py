"""What a training step would take on a machine that is not here: one arm's part of a plan."""

import contextlib
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental.compilation_cache.compilation_cache import reset_cache
from jax.sharding import Mesh
from ml_collections import ConfigDict

from research.data.sources import Dataset
from research.distributed import hlo
from research.distributed.collectives import Collective, collectives, sent
from research.distributed.cost import (
    cost,
    largest_batch,
    peak,
    strong_scaling,
    weak_scaling,
    work,
)
from research.distributed.measure import step_seconds
from research.distributed.mesh import batch_sharding, batch_shards
from research.distributed.network import Layout, layout
from research.distributed.parallel import compile_step
from research.distributed.platform import traced_for
from research.distributed.sharding import Rules, check_split, local_bytes, rules_of, shardings
from research.distributed.topology import Topology
from research.train.optimizer import hyperparams
from research.train.program import pure_functions, state_shapes, step_maker, training_shapes
from research.train.state import TrainState

ASSUMPTIONS = (
    "a chip alone: for each operation the longer of arithmetic at peak and traffic at bandwidth",
    "collectives overlap with nothing, and links carry what their makers say",
    "weak scaling: each chip keeps its rows of the batch; strong: all chips share one batch; "
    "whether fewer chips could hold it is not asked",
    "the largest batch: temporaries grow with the batch, all of them, which errs to small",
)


def planned(config: ConfigDict, dataset: Dataset, machine: Topology, mesh: Mesh) -> dict[str, Any]:
    """Compile a config's step ahead of time; return what its compiler says, and what follows.

    Args:
        config: of a run.
        dataset: as `config.data` names it; no example of it is read.
        machine: to compile for.
        mesh: of all its devices.

    Returns:
        A dict for JSON: `fits`, and where it does `figures` of one chip (name → value, unit, and
        how it is known: compiled, derived or measured), `collectives` by kind and axes, `scaling`.

    Raises:
        UserError: a mesh that leaves a large parameter whole, or splits none.
    """
    rules, precision = rules_of(config.model.name), config.train.precision
    parts = batch_shards(mesh)
    keep = _not_kept() if machine.platform == "tpu" else contextlib.nullcontext()
    with keep, traced_for(machine.platform), jax.enable_x64(precision == "float64"):
        state, batch = train_state(config, dataset), training_shapes(config, dataset)
        check_split(state.params, mesh, rules, config.train.replicate)
        facts = {
            "mesh": dict(mesh.shape),
            "parallel": config.train.parallel,
            "batch_size": config.data.batch_size,
            "rows": config.data.batch_size // parts,
            "precision": precision,
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        }
        make_step = step_maker(config, dataset, mesh)
        try:
            compiled = compile_step(
                config.train.parallel, mesh, make_step, state, batch, rules=rules
            )
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            said = re.search(r"Ran out of memory.*", str(error))
            problem = said[0] if said else str(error).splitlines()[0]
            return facts | {"fits": False, "problem": problem}
    program = hlo.parse(compiled.as_text())
    found = collectives(program, dict(mesh.shape))
    done = work(program, machine.chip, precision)
    spread = layout(mesh, machine.chip.network, machine.shape)
    held = bytes_of(state, mesh, rules)
    step = (done, found, machine.chip, precision, spread)
    scaling = {"weak": weak_scaling(*step), "strong": strong_scaling(*step, held)}
    memory = compiled.memory_analysis()
    rows_bytes = sum(math.prod(s.shape) * s.dtype.itemsize for s in batch.values()) // parts
    fitting = largest_batch(
        machine.chip.memory,
        memory.argument_size_in_bytes,
        memory.temp_size_in_bytes,
        rows_bytes,
        facts["rows"],
    )
    how = "compiled" if machine.compiled else "derived"
    last, costs = scaling["weak"][-1], cost(*step)
    utilisation = done.flops / (peak(machine.chip, precision) * costs.step)
    compared = {}
    if machine.name.startswith("host:"):
        took = _measured(compiled, config, dataset, mesh, batch)
        compared = {
            "step, measured": (took, "s", "measured"),
            "error of the prediction": (costs.step / took - 1, "%", "measured"),
        }
    figures = compared | {
        "parameters": (bytes_of(state.params, mesh, rules), "bytes", "derived"),
        "state": (held, "bytes", "derived"),
        "memory: arguments": (memory.argument_size_in_bytes, "bytes", how),
        "memory: temporaries": (memory.temp_size_in_bytes, "bytes", how),
        "memory: output": (memory.output_size_in_bytes, "bytes", how),
        "operations": (done.flops, "FLOP", how),
        "traffic": (done.nbytes, "bytes", how),
        "collectives": (sent(found), "bytes", how),
        "compute": (costs.compute, "s", "derived"),
        "memory traffic": (costs.memory, "s", "derived"),
        "chip": (costs.chip, "s", "derived"),
        "network": (costs.communication, "s", "derived"),
        "bound": (costs.bound, "", "derived"),
        "step": (costs.step, "s", "derived"),
        "step, all overlapped": (costs.overlapped, "s", "derived"),
        "utilisation": (utilisation, "%", "derived"),
        f"weak scaling to {last.chips}": (last.efficiency, "%", "derived"),
        "largest batch": (
            # What lies in the memory on the chip itself does not tell how it would grow.
            fitting * parts if memory.temp_size_in_bytes else "nothing leaves the chip",
            "rows",
            "derived",
        ),
    }
    return facts | {
        "fits": True,
        "figures": {
            name: dict(zip(("value", "unit", "how"), figure, strict=True))
            for name, figure in figures.items()
        },
        "collectives": _summed(found, spread),
        "scaling": {kind: [vars(point) for point in points] for kind, points in scaling.items()},
        "unknown_loops": done.unknown_loops,
    }


@contextlib.contextmanager
def _not_kept() -> Iterator[None]:
    """Compile past JAX's cache: what it keeps for chips that are not here, it cannot read again."""
    kept = jax.config.jax_enable_compilation_cache
    try:
        jax.config.update("jax_enable_compilation_cache", False)
        reset_cache()
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", kept)
        reset_cache()


def _measured(
    compiled: Callable, config: ConfigDict, dataset: Dataset, mesh: Mesh, batch: dict[str, Any]
) -> float:
    """Return the seconds of a step on what is here, from a fresh state, on a batch of zeros."""
    with jax.enable_x64(config.train.precision == "float64"):
        init, *_ = pure_functions(config, dataset)
        shapes = state_shapes(config, init)
        places = shardings(shapes, mesh, rules_of(config.model.name))
        begin = jax.jit(init, out_shardings=places)
        state = begin(jax.random.key(0), hyperparams(config.optimizer))
        zeros = {name: np.zeros(s.shape, s.dtype) for name, s in batch.items()}
        return step_seconds(compiled, state, jax.device_put(zeros, batch_sharding(mesh)))


def train_state(config: ConfigDict, dataset: Dataset) -> TrainState:
    """Return the shapes of the train state."""
    with jax.enable_x64(config.train.precision == "float64"):
        init, *_ = pure_functions(config, dataset)
        return state_shapes(config, init)


def bytes_of(tree: Any, mesh: Mesh, rules: Rules) -> int:
    """Return the bytes of a tree of shapes that each device holds."""
    places = shardings(tree, mesh, rules)
    with_places = jax.tree.map(
        lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), tree, places
    )
    return local_bytes(with_places)


def _summed(found: list[Collective], spread: Layout) -> list[dict[str, Any]]:
    """Return the collectives by kind and axes."""
    rows: dict[tuple[str, tuple[str, ...]], dict[str, Any]] = {}
    for each in found:
        key = each.kind, each.axes
        row = rows.setdefault(
            key,
            {
                "kind": each.kind,
                "axes": list(each.axes),
                "devices": each.size,
                "count": 0,
                "bytes": 0,
                "seconds": 0.0,
            },
        )
        row["count"] += each.times
        row["bytes"] += each.times * each.nbytes
        row["seconds"] += each.times * spread.seconds(each)
    return sorted(rows.values(), key=lambda row: -row["seconds"])
