"""`--mode=report` and `--mode=publish`: tables, plots and pages from finished runs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from research import workdir as workdirs
from research.config import UserError
from research.experiment import HERE
from research.report import print_table, publish, report
from research.study import Study


def show_report(workdir: Path) -> None:
    """Write the report of `workdir`, print its table and where it is.

    Raises:
        UserError: nothing was run there.
    """
    if workdirs.read(workdir) is None:
        raise UserError(f"--workdir: found no runs in {workdir}, expected a folder that holds some")
    page = report(workdir)
    print_table(workdir)
    print(f"Report: {page / 'index.html'}")


def report_again(study: Study, overrides: Mapping[str, Any]) -> None:
    """Report on the study's workdir, by another baseline, other panels or factors where asked.

    Raises:
        UserError: nothing was run there; an override that the finished runs cannot follow, or one
            for another experiment's runs.
    """
    frame = {f"experiment.{name}" for name in ("baseline", "panels", "factors", "within")}
    if frame & overrides.keys() and workdirs.read(study.workdir):
        workdirs.check_owner(study)
        workdirs.reframe(study)
    show_report(study.workdir)


def publish_results(study: Study, experiment: str) -> None:
    """Report, and copy the results into the experiment's folder and page.

    Raises:
        UserError: the workdir holds nothing or another experiment's runs, or the experiment has no
            page to write to.
    """
    workdirs.check_owner(study)
    show_report(study.workdir)
    path = Path(experiment)
    folder = path.parent if experiment.endswith(".py") else HERE / experiment
    for written in publish(study.workdir, folder):
        print(f"Published: {written}")
