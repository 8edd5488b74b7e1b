"""`--mode=evaluate`: test finished runs' best checkpoints again, or one model in every detail."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from research import metrics, workdir
from research.commands.train import Datasets
from research.commands.trained import Trained, open_model
from research.config import UserError
from research.distributed.mesh import lanes, replicated
from research.files import write, write_csv, write_json
from research.report.plots.confusion import confusion_plot
from research.report.plots.roc import roc_plot
from research.report.plots.style import STYLE, png
from research.report.wording import label, number
from research.study import Study
from research.tasks.evaluation import Evaluation
from research.train.checkpoint import Checkpoints, abstract
from research.train.evaluation import evaluate_model
from research.train.loop import evaluate
from research.train.optimizer import hyperparams
from research.train.program import eval_batch_size, get_program
from research.train.record import Run


def evaluate_study(study: Study, data_dir: str | None) -> None:
    """Print the test accuracy, where there is one, and loss of each selected run's best checkpoint,
    as it stands on disk. An ensemble has none.

    Raises:
        UserError: none of the selected runs has finished.
    """
    configs = study.tuned_configs() if _has_tuned(study) else study.configs
    needed = {"best_step", "test/loss"}
    runs = [run for run in study.runs(configs) if needed <= _metrics(run).keys()]
    if not runs:
        raise UserError(
            f"--workdir: found no finished run with a network of its own in {study.workdir}, "
            "expected at least 1"
        )
    datasets = Datasets(data_dir)
    workdir.check(study, runs, datasets.of)
    shown = [k for k in ("test/accuracy", "test/loss") if all(k in _metrics(run) for run in runs)]
    columns = [f"{recorded}{label(k, {})}" for recorded in ("", "recorded ") for k in shown]
    table = Table("arm", "seed", "step", *columns)
    for run in runs:
        dataset, mesh = datasets.of(run.config), lanes(run.config.train.mesh)[0]
        with jax.enable_x64(run.config.train.precision == "float64"):
            program = get_program(run.config, dataset, mesh)
            values = (jax.random.key(run.seed), hyperparams(run.config.optimizer))
            state = program.init(*jax.device_put(values, replicated(mesh)))
            checkpoints = Checkpoints(run.directory / "checkpoints", run.config.train.keep)
            step = int(_metrics(run)["best_step"])
            best, _ = checkpoints.restore(step, abstract(state))
            checkpoints.close()
            tested = evaluate(program, best, dataset, "test", run.config, mesh)
        values = [found[k] for found in (tested, _metrics(run)) for k in shown]
        table.add_row(run.arm, str(run.seed), str(step), *(f"{v:.4f}" for v in values))
    Console().print(table)


def _metrics(run: Run) -> dict:
    return (run.result() or {"metrics": {}})["metrics"]


def _has_tuned(study: Study) -> bool:
    runs = study.tuning_runs()
    return bool(runs) and all(run.result() is not None for run in runs)


def evaluate_checkpoint(
    checkpoint: str | None, data_dir: str | None, overrides: Mapping[str, Any]
) -> Evaluation:
    """Print and draw how the model that `--checkpoint` names, or the published one that
    `--config.init_from` names, does on its test split.

    A published model is quantised where `quantize.kind` says so, and its size stands in the table.
    Tables and pictures go to `evaluation/` in the run's directory, or to that of a published model
    in `runs/published`.

    Raises:
        UserError: there is no such checkpoint, or other data than it was trained on.
    """
    trained = open_model(checkpoint, data_dir, overrides)
    with trained.precision():
        evaluation = evaluate_model(
            trained.task,
            trained.variables,
            trained.dataset.test,
            mesh=trained.mesh,
            batch_size=eval_batch_size(trained.config, trained.dataset),
            feed=trained.config.data.feed,
        )
    if not checkpoint and trained.config.quantize.kind != "none":
        sizes = _footprint(trained)
        evaluation = dataclasses.replace(evaluation, metrics=evaluation.metrics | sizes)
    title = f"{trained.config.model.name} on {trained.dataset.name}, {trained.origin}"
    folder = trained.directory / "evaluation"
    show_evaluation(evaluation, trained.dataset.class_names, title, folder)
    return evaluation


def _footprint(trained: Trained) -> dict[str, float]:
    """Write a published network in the bits that `quantize.kind` gives it; return what it takes."""
    from research.compression.artefact import footprint  # imports qwix, which takes a second

    path = trained.directory / "network.safetensors"
    found = footprint(path, jax.device_get(trained.variables), trained.config.quantize.kind)
    print(f"Written: {path}")
    return {name: value for name, value in found.items() if not name.startswith("snr_db/")}


def show_evaluation(
    evaluation: Evaluation, class_names: Sequence[str], title: str, folder: Path
) -> None:
    """Print an evaluation on test, overall and by class; write it and its pictures to `folder`.

    A regression has no classes to tell apart: of it there are the overall numbers alone.
    """
    console = Console(highlight=False)
    found = evaluation.metrics
    examples = "" if evaluation.labels is None else f", {len(evaluation.labels):,} examples"
    table = Table(f"test{examples}", "")
    for name, value in found.items():
        table.add_row(label(name, {}), number(value, 4))
    console.print(title, markup=False)
    console.print(table)
    finite = {k: v if math.isfinite(v) else None for k, v in found.items()}
    written = [write_json(folder / "metrics.json", {"title": title, "metrics": finite})]
    if evaluation.probabilities is not None:
        rows = by_class(evaluation, class_names)
        console.print(_class_table(rows, len(class_names)))
        written.append(write_csv(folder / "classes.csv", rows))
        written += _draw(evaluation, class_names, title, folder)
    for path in written:
        print(f"Written: {path}")


def by_class(evaluation: Evaluation, class_names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the metrics of each class against the rest, and their means, as rows."""
    confusion, scores = evaluation.confusion, evaluation.probabilities
    rows = []
    for average in metrics.AVERAGES:
        area = metrics.roc_auc_one_vs_rest(scores, evaluation.labels, average)
        values = metrics.precision_recall_f1(confusion, average)._asdict()
        values |= {"specificity": metrics.specificity(confusion, average), "AUC": area}
        names = class_names if average is None else [average]
        examples = confusion.sum(1) if average is None else [confusion.sum()]
        columns = {name: np.atleast_1d(value).tolist() for name, value in values.items()}
        rows += [
            {"class": name, "examples": int(examples[i])} | {k: v[i] for k, v in columns.items()}
            for i, name in enumerate(names)
        ]
    return rows


SHOWN = 50  # classes that are printed; classes.csv has all


def _class_table(rows: list[dict[str, Any]], classes: int) -> Table:
    caption = None
    each, means = rows[:classes], rows[classes:]
    if classes > SHOWN:
        each = sorted(each, key=lambda row: row["f1"])[:SHOWN]
        caption = f"the {SHOWN} of {classes} classes with the lowest F1"
    table = Table(*(label(name, {}) for name in rows[0]), caption=caption)
    for column in table.columns[1:]:
        column.justify = "right"
    for part in (each, means):
        for row in part:
            name, examples, *values = row.values()
            table.add_row(name, f"{examples:,}", *(f"{value:.4f}" for value in values))
        table.add_section()
    return table


def _draw(
    evaluation: Evaluation, class_names: Sequence[str], title: str, folder: Path
) -> list[Path]:
    import matplotlib

    found, scores, labels = evaluation.metrics, evaluation.probabilities, evaluation.labels
    accuracy = f"accuracy {100 * found['accuracy']:.2f} % of {len(labels):,}"
    curves = {}
    areas = metrics.roc_auc_one_vs_rest(scores, labels, None)
    for k, name in enumerate(class_names):
        mirrored = k == 0 and len(class_names) == 2  # by that of the other class
        if not mirrored and np.isfinite(areas[k]):
            curve = metrics.roc_curve(scores[:, k], labels == k)
            curves[name] = (curve.false_positive_rate, curve.true_positive_rate, areas[k].item())
    plots = {"confusion_matrix": (confusion_plot, evaluation.confusion, class_names, accuracy)}
    if curves:
        plots["roc"] = (roc_plot, curves, f"mean area under the curve {found['auc']:.4f}")
    written = []
    for name, (plot, *arguments, remark) in plots.items():
        with matplotlib.rc_context(STYLE):
            figure, rows = plot(*arguments, f"{title}: {remark}")
            written.append(write(folder / f"{name}.png", png(figure)))
        write_csv(folder / f"{name}.csv", rows)
    return written
