"""Write the report of a workdir: numbers, pictures and pages."""

from pathlib import Path

from research.files import write, write_json
from research.report.page import blocks, render_html, render_markdown
from research.report.plots import draw
from research.report.runs import read_experiment
from research.report.summary import summarise


def report(workdir: str | Path) -> Path:
    """Write `WORKDIR/report/`: `summary.json`, `report.md`, `index.html`, plots and their data.

    Returns:
        The directory of the report.

    Raises:
        UserError: the workdir holds no ended run, a file in it cannot be read, or no panel names
            a metric that a run has logged.
    """
    experiment = read_experiment(workdir)
    summary = summarise(experiment)
    directory = experiment.workdir / "report"
    plots = draw(experiment, summary, directory)
    title = f"{summary.get('title') or summary['experiment']} ({summary['scale']})"
    content = blocks(experiment, summary, plots)
    write(directory / "report.md", render_markdown(title, content))
    write(directory / "index.html", render_html(title, content))
    write_json(directory / "summary.json", summary)
    return directory
