"""`--dry_run`: what would run, and what it costs."""

import jax
from rich.console import Console
from rich.table import Table

from research import workdir
from research.commands.train import Datasets, prepare
from research.study import Study
from research.tasks.additions import model_size
from research.train.program import program_key, pure_functions, state_shapes, training_shapes
from research.train.record import Run
from research.train.tasks import total_steps


def dry_run(study: Study, data_dir: str | None) -> None:
    """Print every arm with its runs, parameters and arithmetic; train nothing."""
    datasets = Datasets(data_dir)
    prepare(study, datasets)
    parts = study.generations()
    tuning = [run for part in parts for run in part.tuning_runs()]
    workdir.check(study, tuning, datasets.of)
    table = Table("arm", "changes", "parameters", "steps", "runs", "done", "FLOPs")
    for column in table.columns[:2]:
        column.overflow = "fold"
    total_runs = total_flops = 0
    costs: dict[str, tuple[int, float]] = {}  # of the arms that share a program
    configs = study.sources | study.configs
    for arm, config in configs.items():
        dataset = datasets.of(config)
        runs = [run for run in [*tuning, *study.runs(configs)] if run.arm == arm]
        done = sum(run.result() is not None for run in runs)
        key = program_key(config, dataset)
        if key not in costs:
            costs[key] = cost(config, dataset)
        parameters, flops = costs[key]
        steps = 0 if config.ensemble.of or config.ensemble.members else total_steps(config, dataset)
        flops *= steps * (len(runs) - done)
        total_runs, total_flops = total_runs + len(runs) - done, total_flops + flops
        changes = "\n".join(f"{k}={v}" for k, v in study.changes[arm].items())
        table.add_row(
            arm, changes, f"{parameters:,}", f"{steps:,}", _runs(runs), str(done), f"{flops:.2e}"
        )
    console = Console()
    console.print(f"{study.name} --scale={study.scale} into {study.workdir}", highlight=False)
    console.print(table)
    console.print(
        f"{total_runs} runs to train, {total_flops:.2e} floating-point operations in steps "
        "(XLA's count before it optimises; evaluation not counted)",
        highlight=False,
        soft_wrap=True,
    )


def cost(config, dataset) -> tuple[int, float]:
    """Return the parameters, and the floating-point operations of one training step."""
    with jax.enable_x64(config.train.precision == "float64"):
        init, step, _ = pure_functions(config, dataset)
        state = state_shapes(config, init)
        lowered = jax.jit(step).lower(state, training_shapes(config, dataset))
        parameters = model_size(state.params)
        return parameters, lowered.cost_analysis()["flops"]


def _runs(runs: list[Run]) -> str:
    tuning = sum(not run.test for run in runs)
    seeds = len(runs) - tuning
    return f"{seeds} + {tuning} to tune" if tuning else str(seeds)
