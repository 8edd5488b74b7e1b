"""Publish a report beside its experiment: files under `results/<scale>/`, a table in the README."""

import re
from pathlib import Path
from typing import Any

from research.config import UserError, unknown
from research.files import write
from research.report.design import Design
from research.report.document import report
from research.report.runs import read_experiment
from research.report.summary import summarise
from research.report.tables import (
    effects_table,
    map_tables,
    markdown,
    table,
    tuned_fields,
    tuning_table,
)
from research.report.wording import how_it_was_run, label, notes, with_unit

LARGEST = 150_000  # bytes of a picture; a repository keeps every version for ever


def publish(workdir: str | Path, experiment_dir: str | Path) -> list[Path]:
    """Report on `workdir`, copy the result to `experiment_dir` and rewrite its README's table.

    The table stands between `<!-- results:<scale> begin -->` and `<!-- results:<scale> end -->`.
    `experiment_dir` is left untouched unless both are there. Of the report's plots those are copied
    that the README shows, as `results/<scale>/<plot>.png`.

    Returns:
        The files written: `results/<scale>/summary.json`, the plots, and the README.

    Raises:
        UserError: the README or its markers are missing, it shows a plot that the report has not,
            or one is larger than 150 kB.
    """
    experiment_dir = Path(experiment_dir)
    summary = summarise(read_experiment(workdir))
    scale = summary["scale"]
    readme = experiment_dir / "README.md"
    page = _replace_table(readme, scale, published_table(summary))
    made = report(workdir)
    shown = sorted({*re.findall(rf"results/{scale}/(\w+\.png)", page)})
    copies = [made / "summary.json", *(made / name for name in shown)]
    for path in copies[1:]:
        if not path.exists():
            plots = sorted(each.name for each in made.glob("*.png"))
            raise unknown(f"{readme}: plot results/{scale}/", path.name, plots)
        if path.stat().st_size > LARGEST:
            size = path.stat().st_size // 1000
            raise UserError(
                f"{path}: found {size} kB, expected at most {LARGEST // 1000} to publish"
            )
    results = experiment_dir / "results" / scale
    written = [write(results / path.name, path.read_bytes()) for path in copies]
    for path in set(results.glob("*.png")) - {*written}:  # of an earlier publication
        path.unlink()
    return [*written, write(readme, page)]


def published_table(summary: dict[str, Any]) -> str:
    """Lay the results out as Markdown with all that a reader needs to run them again."""
    if len(Design.of(summary).axes) == 2:
        metric = with_unit(summary["panels"][0]["metric"], summary)
        maps = map_tables(summary).items()
        parts = [
            "; ".join(filter(None, (metric, name))) + f"\n\n{markdown(rows)}" for name, rows in maps
        ]
    else:
        parts = [markdown(table(summary))]
    if rows := effects_table(summary["panels"][0], summary):
        metric = label(summary["panels"][0]["metric"], summary)
        parts.append(f"Effects on {metric}:\n\n{markdown(rows)}")
    if rows := tuning_table(summary):
        fields = " / ".join(tuned_fields(summary))
        parts.append(f"Validation by {fields} (*: chosen):\n\n{markdown(rows)}")
    parts.append(f"```\n{summary.get('command', 'command not recorded')}\n```")
    facts = [f"{name}: {text}" for name, text in how_it_was_run(summary).items()]
    parts.append("\n".join(f"- {line}" for line in [*facts, *notes(summary)]))
    return "\n\n".join(parts)


def _replace_table(readme: Path, scale: str, content: str) -> str:
    begin, end = (f"<!-- results:{scale} {word} -->" for word in ("begin", "end"))
    advice = f"expected the lines {begin!r} and {end!r} around the table's place, once and in order"
    if not readme.exists():
        raise UserError(f"{readme}: found no such file; {advice}")
    text = readme.read_text(encoding="utf-8")
    between = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if text.count(begin) != 1 or text.count(end) != 1 or not between.search(text):
        raise UserError(f"{readme}: {advice}; found {text.count(begin)} and {text.count(end)}")
    return between.sub(lambda _: f"{begin}\n\n{content}\n\n{end}", text)
