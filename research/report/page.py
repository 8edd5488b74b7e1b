"""The report as a document: one list of blocks, rendered as Markdown and as a page of HTML."""

import base64
import dataclasses
import html
from pathlib import Path
from typing import Any

from research.report.design import Design
from research.report.runs import Experiment
from research.report.tables import (
    Rows,
    effects_table,
    markdown,
    panel_table,
    runs_table,
    table,
    tuned_fields,
    tuning_table,
    utilization_table,
)
from research.report.wording import how_it_was_run, label, notes, with_unit


@dataclasses.dataclass(frozen=True)
class Block:
    """A piece of the report; `kind` is heading, text, list, table, figure, or a box of blocks."""

    kind: str
    content: Any
    caption: str = ""


EFFECTS = (
    "A linear model with treatment contrasts. Averaged: over the levels of the other factors. "
    "At the baseline: with the other factors at the baseline's levels. [low, high] are 95 % "
    "intervals that allow for unequal variances (HC2, degrees of freedom after Satterthwaite), "
    "seeds taken as independent; p with Holm's correction over the effects."
)

UTILIZATION = (
    "Medians over runs, of a run over its log. FLOP/s: two for each multiply–add of the model, the "
    "backward pass taken for twice the forward; MFU: their share of the devices' peak. Input wait: "
    "share of the time in which the loop waited for a batch. Communication: what the collectives "
    "of a step send, and the share of the time that they take when replayed alone."
)

CAPTIONS = {
    "interactions": "Interactions: lines that are not parallel; every seed shown.",
    "effects": "Main effects and interactions of a linear model with treatment contrasts.",
    "along_axis": "Final metrics along the axis: mean and 95 % interval over seeds.",
    "heat_map": "The mean over seeds at every place of the map.",
    "clipping": "The gradient norm before clipping (each value a mean between two logged steps), "
    "and how often clipping acted, a mean over runs.",
    "gradient_profile": "Gradient norm by layer: geometric mean over seeds.",
    "state_gradient": "Norm of the loss's gradient with respect to the state at each step, of the "
    "first layer's forward direction: geometric mean over seeds.",
    "gates": "Share of the gates' values below 0.1 (left) and above 0.9 (right) at the end of "
    "training: mean over seeds.",
    "final": "Final metrics by arm, every seed shown.",
    "learning_curves": "Learning curves: mean over seeds, band from the least to the greatest.",
    "gradient_norm": "Gradient norm by layer and step, geometric mean over seeds; "
    "grey: no such layer, or no finite value.",
}


def blocks(experiment: Experiment, summary: dict[str, Any], plots: dict[str, Path]) -> list[Block]:
    """Compose the report, the answer first."""
    content = [Block("text", summary["question"])] if summary.get("question") else []
    content += [
        Block("table", table(summary)),
        Block("text", _comparison(summary["panels"][0], summary)),
    ]
    if remarks := notes(summary):
        content += [Block("heading", "To be known first"), Block("list", remarks)]
    for name, path in plots.items():
        kind = next(kind for kind in CAPTIONS if name.startswith(kind))
        content.append(Block("figure", path, CAPTIONS[kind]))
    for panel in summary["panels"]:
        name = label(panel["metric"], summary)
        content += [
            Block("heading", name[:1].upper() + name[1:]),
            Block("table", panel_table(panel, summary)),
            Block("text", _comparison(panel, summary)),
        ]
        if rows := effects_table(panel, summary):
            content += [Block("table", rows), Block("text", EFFECTS)]
    if rows := tuning_table(summary):
        select = with_unit(summary["tune"].get("select", "validation/accuracy"), summary)
        content += [
            Block("heading", f"Tuned {' / '.join(tuned_fields(summary))}"),
            Block("table", rows),
            Block("text", f"Tuning runs, their mean {select}; *: chosen."),
        ]
    if rows := utilization_table(summary):
        content += [
            Block("heading", "Use of the devices"),
            Block("table", rows),
            Block("text", UTILIZATION),
        ]
    content += [
        Block("box", _how(summary), "How this was run"),
        Block("heading", "Every run"),
        Block("table", runs_table(experiment, summary)),
    ]
    return content


def _how(summary: dict[str, Any]) -> list[Block]:
    facts = [f"{name}: {text}" for name, text in how_it_was_run(summary).items()]
    return [Block("code", summary.get("command", "not recorded")), Block("list", facts)]


def render_markdown(title: str, content: list[Block]) -> str:
    """Render as Markdown; figures are linked by their file's name."""
    render = {
        "heading": lambda b: f"## {b.content}",
        "text": lambda b: b.content,
        "code": lambda b: f"```\n{b.content}\n```",
        "list": lambda b: "\n".join(f"- {line}" for line in b.content),
        "table": lambda b: markdown(b.content),
        "figure": lambda b: (
            f"![{b.caption}]({b.content.name})\n\n"
            f"*{b.caption}* [data]({b.content.with_suffix('.csv').name})"
        ),
        "box": lambda b: "\n\n".join([f"## {b.caption}", *(render[x.kind](x) for x in b.content)]),
    }
    return "\n\n".join([f"# {title}", *(render[block.kind](block) for block in content)]) + "\n"


def render_html(title: str, content: list[Block]) -> str:
    """Render as one file that needs no other: images are embedded, tables sort on a click."""
    text = html.escape
    render = {
        "heading": lambda b: f"<h2>{text(b.content)}</h2>",
        "text": lambda b: f"<p>{text(b.content)}</p>",
        "code": lambda b: f"<pre>{text(b.content)}</pre>",
        "list": lambda b: "<ul>" + "".join(f"<li>{text(x)}</li>" for x in b.content) + "</ul>",
        "table": lambda b: _html_table(b.content),
        "figure": lambda b: (
            f'<figure><img src="{_data_uri(b.content)}" alt="{text(b.caption)}">'
            f"<figcaption>{text(b.caption)} {_download(b.content.with_suffix('.csv'))}"
            "</figcaption></figure>"
        ),
        "box": lambda b: (
            f"<aside><h2>{text(b.caption)}</h2>"
            + "".join(render[x.kind](x) for x in b.content)
            + "</aside>"
        ),
    }
    body = "\n".join(render[block.kind](block) for block in content)
    return _PAGE.format(title=text(title), style=_STYLE, body=body, script=_SCRIPT)


def _comparison(panel: dict[str, Any], summary: dict[str, Any]) -> str:
    """Say what the intervals of a panel are, and what its arms are compared with and how."""
    design, shares = Design.of(summary), panel["metric"] == "diverged"
    intervals = (
        "[low, high] are 95 % intervals of shares: Wilson's, and Newcombe's for differences."
        if shares
        else "± and [low, high] are 95 % Student t intervals over seeds."
    )
    if design.base is None:
        return f"{intervals} No baseline is among the arms, so none is compared."
    place = " and ".join(design.label(field) for field in (*design.within, *design.axes))
    where = f" at the same {place}" if place and design.names else ""
    test = "Fisher's exact test" if shares else "the t test of differences paired by seed"
    return (
        f"{intervals} Δ {design.base_name} is the difference from it{where}; p is of {test}, with "
        "Holm's correction over the arms (the intervals are not corrected)."
    )


def _html_table(rows: Rows) -> str:
    head = "".join(f"<th>{html.escape(column)}</th>" for column in rows[0])
    lines = ("".join(f"<td>{html.escape(cell)}</td>" for cell in row.values()) for row in rows)
    body = "\n".join(f"<tr>{line}</tr>" for line in lines)
    grid = f"<table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table>"
    return f'<div class="wide">{grid}</div>'


def _download(path: Path) -> str:
    uri = _data_uri(path, "text/csv")
    return f'<a download="{html.escape(path.name)}" href="{uri}">{html.escape(path.name)}</a>'


def _data_uri(path: Path, kind: str = "image/png") -> str:
    return f"data:{kind};base64," + base64.b64encode(path.read_bytes()).decode("ascii")


_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 64rem;
  margin: 2rem auto; padding: 0 1rem }
h1 { line-height: 1.2 } h2 { margin-top: 2.2rem; font-size: 1.2rem }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums }
th, td { padding: .3rem .5rem; text-align: right; border-bottom: 1px solid #ddd;
  white-space: nowrap }
th:first-child, td:first-child { text-align: left }
th { cursor: pointer; border-bottom: 2px solid #222; vertical-align: bottom; white-space: normal }
th[aria-sort=ascending]::after { content: " ▲" } th[aria-sort=descending]::after { content: " ▼" }
pre { background: #f4f4f4; border: 1px solid #ddd; padding: .8rem; white-space: pre-wrap;
  overflow-wrap: anywhere }
aside { background: #f7f7fa; border-left: 4px solid #0072b2; padding: .1rem 1rem;
  margin: 2rem 0 }
aside h2 { margin-top: .8rem } aside pre { background: #fff }
figure { margin: 1.5rem 0 } img { max-width: 100%; height: auto }
figcaption { color: #555; font-size: .85rem }
"""

_SCRIPT = """
const value = (row, i) => row.cells[i].textContent.trim();
const key = text => parseFloat(text.replace('−', '-').replace(/^[<+]/, ''));
for (const th of document.querySelectorAll('th')) th.onclick = () => {
  const up = th.ariaSort !== 'ascending', i = th.cellIndex;
  for (const other of th.parentNode.cells) other.ariaSort = null;
  th.ariaSort = up ? 'ascending' : 'descending';
  const body = th.closest('table').tBodies[0], rows = [...body.rows];
  const compare = (a, b) => {
    const x = key(value(a, i)), y = key(value(b, i));
    if (isNaN(x) !== isNaN(y)) return isNaN(x) ? 1 : -1;  // what has no number comes last
    const order = isNaN(x) ? value(a, i).localeCompare(value(b, i)) : x - y;
    return up ? order : -order;
  };
  body.append(...rows.sort(compare));
};
"""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>{title}</h1>
{body}
<script>{script}</script>
</body>
</html>
"""
