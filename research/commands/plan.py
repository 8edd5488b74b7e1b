"""`--mode=plan`: what a step would take on a machine that is not here.

With `--topology` the training step of each arm is compiled ahead of time for that machine, and what
the compiler says of it (memory, operations, collectives) is put into a model of the chip and its
network. Without it, the parameters are listed with how the mesh of `--mesh` splits them.
"""

import dataclasses
import math
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table

from research.commands.train import Datasets
from research.config import UserError
from research.data.described import described
from research.data.sources import Dataset
from research.distributed.cost import peak
from research.distributed.measure import measured
from research.distributed.mesh import check_batch, lanes, make_mesh, mesh_sizes
from research.distributed.parallel import check_parallel
from research.distributed.sharding import check_split, name_of, rules_of, shardings
from research.distributed.topology import HOST, Topology, parse_topology
from research.files import write, write_csv, write_json
from research.progress import elapsed
from research.report import plan as tables
from research.report.plots.plan import draw_plan
from research.report.plots.style import STYLE, png
from research.study import Study
from research.train.planning import ASSUMPTIONS, bytes_of, planned, train_state
from research.train.program import program_key
from research.train.state import TrainState


def plan(study: Study, topology: str | None, data_dir: str | None) -> None:
    """Print what each arm's step takes, those that share a program once.

    Args:
        study: whose arms are planned.
        topology: a machine by name, see `research.distributed.topology`; None: only parameters.
        data_dir: of sets that are not known by their facts.

    Raises:
        UserError: a machine, a mesh or a batch that cannot be.
    """
    datasets = Datasets(data_dir)
    console = Console(highlight=False)
    chosen: dict[str, tuple[str, ConfigDict, Dataset]] = {}
    sharing: dict[str, list[str]] = {}
    for arm, config in study.configs.items():
        dataset = described(config) or datasets.of(config)
        key = program_key(config, dataset) + config.train.mesh
        first, *_ = chosen.setdefault(key, (arm, config, dataset))
        sharing.setdefault(first, []).append(arm)
    if topology is None:
        for arm, config, dataset in chosen.values():
            mesh, state = lanes(config.train.mesh)[0], train_state(config, dataset)
            console.print(_parameters(arm, config, state, mesh))
            check_split(state.params, mesh, rules_of(config.model.name), config.train.replicate)
        return
    machine = parse_topology(topology)
    devices = machine.devices()
    meshes = {arm: _mesh(arm, config, machine, devices) for arm, config, _ in chosen.values()}
    if machine.chip is HOST:
        precisions = {config.train.precision for _, config, _ in chosen.values()}
        with elapsed(console, f"measuring {machine.name}"):
            machine = dataclasses.replace(machine, chip=measured(devices, precisions))
    report: dict[str, Any] = {
        "experiment": study.name,
        "scale": study.scale,
        "topology": machine.name,
        "chips": machine.size,
        "sources": list(machine.chip.sources),
        "assumptions": list(ASSUMPTIONS),
        "arms": {},
    }
    for arm, config, dataset in chosen.values():
        with elapsed(console, f"compiling {arm} for {machine.name}") as seconds:
            found = planned(config, dataset, machine, meshes[arm])
        report["arms"][arm] = {"shared_by": sharing[arm]} | found
        report["arms"][arm]["compile_seconds"] = round(seconds(), 1)
    fitting = any(found["fits"] for found in report["arms"].values())
    if fitting:
        console.print(tables.figures(report))
    for arm, found in report["arms"].items():
        if found["fits"]:
            console.print(tables.collectives(arm, found))
            console.print(tables.scaling(arm, found))
        else:
            console.print(f"{arm} does not fit: {found['problem']}", soft_wrap=True)
    for assumption in ASSUMPTIONS:
        console.print(f"- {assumption}", soft_wrap=True)
    where = write_json(study.workdir / "plan.json", report)
    if fitting:
        import matplotlib

        with matplotlib.rc_context(STYLE):
            figure, rows = draw_plan(report)
            write(study.workdir / "plan.png", png(figure))
        write_csv(study.workdir / "plan.csv", rows)
    console.print(f"{where}" + (", plan.png, plan.csv" if fitting else ""), soft_wrap=True)


def _mesh(arm: str, config: ConfigDict, machine: Topology, devices: Any) -> Mesh:
    """Return the mesh of `train.mesh` on a whole machine; without one, data-parallel.

    Raises:
        UserError: one that does not use all chips, or does not divide the batch.
    """
    try:
        mesh = make_mesh(devices, mesh_sizes(config.train.mesh, machine.size, machine.name))
        check_batch("data.batch_size", config.data.batch_size, mesh, config.train.mesh)
    except UserError as error:
        raise UserError(f"arm {arm} on {machine.name}: {error}") from None
    if machine.chip is not HOST:
        peak(machine.chip, config.train.precision)
    check_parallel(config.train.parallel, mesh)
    return mesh


def _parameters(arm: str, config: ConfigDict, state: TrainState, mesh: Mesh) -> Table:
    """Every parameter with its shape, its spec, and its bytes on each device."""
    rules = rules_of(config.model.name)
    sizes = ", ".join(f"{axis}:{n}" for axis, n in mesh.shape.items() if n > 1) or "one device"
    table = Table("parameter", "shape", "spec", "bytes per device", title=f"{arm} on {sizes}")
    table.columns[0].overflow = "fold"
    table.columns[3].justify = "right"
    places = jax.tree.leaves(shardings(state.params, mesh, rules))
    leaves = jax.tree_util.tree_flatten_with_path(state.params)[0]
    for (path, leaf), place in zip(leaves, places, strict=True):
        held = math.prod(place.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        spec = ", ".join(map(_axes, place.spec)) if any(place.spec) else "replicated"
        table.add_row(name_of(path), "×".join(map(str, leaf.shape)), spec, f"{held:,}")
    table.add_section()
    for what, tree in (
        ("parameters", state.params),
        ("optimiser", state.opt_state),
        ("all", state),
    ):
        table.add_row(what, "", "", f"{bytes_of(tree, mesh, rules):,}")
    return table


def _axes(part: Any) -> str:
    return "·" if part is None else part if isinstance(part, str) else "+".join(part)
