"""`--mode=evaluate`: test the best checkpoints of finished runs again."""

import jax
from rich.console import Console
from rich.table import Table

from research import workdir
from research.commands.train import Datasets
from research.config import UserError
from research.distributed.mesh import lanes, replicated
from research.study import Study
from research.train.checkpoint import Checkpoints, abstract
from research.train.loop import evaluate
from research.train.optimizer import hyperparams
from research.train.program import get_program
from research.train.record import Run


def evaluate_study(study: Study, data_dir: str | None) -> None:
    """Print test accuracy and loss of each selected run's best checkpoint, as it stands on disk.

    Raises:
        UserError: none of the selected runs has finished.
    """
    configs = study.tuned_configs() if _has_tuned(study) else study.configs
    runs = [run for run in study.runs(configs) if "test/accuracy" in _metrics(run)]
    if not runs:
        raise UserError(f"--workdir: found no finished run in {study.workdir}, expected at least 1")
    datasets = Datasets(data_dir)
    workdir.check(study, runs, datasets.of)
    table = Table("arm", "seed", "step", "test accuracy", "test loss", "recorded accuracy")
    for run in runs:
        dataset, mesh = datasets.of(run.config), lanes(run.config.train.devices)[0]
        with jax.enable_x64(run.config.train.precision == "float64"):
            program = get_program(run.config, dataset, mesh)
            values = (jax.random.key(run.seed), hyperparams(run.config.optimizer))
            state = program.init(*jax.device_put(values, replicated(mesh)))
            checkpoints = Checkpoints(run.directory / "checkpoints", run.config.train.keep)
            step = int(_metrics(run)["best_step"])
            best, _ = checkpoints.restore(step, abstract(state))
            checkpoints.close()
            metrics = evaluate(program, best, dataset.test, run.config, mesh, "test/")
        recorded = _metrics(run)["test/accuracy"]
        table.add_row(
            run.arm,
            str(run.seed),
            str(step),
            f"{metrics['test/accuracy']:.4f}",
            f"{metrics['test/loss']:.4f}",
            f"{recorded:.4f}",
        )
    Console().print(table)


def _metrics(run: Run) -> dict:
    return (run.result() or {"metrics": {}})["metrics"]


def _has_tuned(study: Study) -> bool:
    runs = study.tuning_runs()
    return bool(runs) and all(run.result() is not None for run in runs)
