"""`--mode=report` and `--mode=publish`: tables, plots and pages from finished runs."""

from pathlib import Path

from research import workdir as workdirs
from research.config import UserError
from research.experiment import HERE
from research.report import print_table, publish, report


def show_report(workdir: Path) -> None:
    """Write the report of `workdir`, print its table and where it is.

    Raises:
        UserError: nothing was run there.
    """
    if workdirs.read(workdir) is None:
        raise UserError(f"--workdir: found no runs in {workdir}, expected a folder that holds some")
    page = report(workdir)
    print_table(workdir)
    print(f"Report: {page}")


def publish_results(workdir: Path, experiment: str) -> None:
    """Report, and copy the results into the experiment's folder and page.

    Raises:
        UserError: nothing was run there, or the experiment has no page to write to.
    """
    show_report(workdir)
    path = Path(experiment)
    folder = path.parent if experiment.endswith(".py") else HERE / experiment
    for written in publish(workdir, folder):
        print(f"Published: {written}")
