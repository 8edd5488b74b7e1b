"""The ledger of claims as a page, and as data."""

import json
from collections import Counter
from typing import Any

from research.report.claims import (
    EXACT,
    NOT_SUPPORTED,
    NOT_YET,
    REACHED,
    SUPPORTED,
    UNDECIDED,
    unit,
)
from research.report.tables import NOTHING, markdown
from research.report.wording import decimals, label

Entry = dict[str, Any]

HEAD = """# What the textbook claims, and what was measured

Written by `python launch.py --mode=claims` from [claims.toml](claims.toml), where each claim is
declared with the comparison that decides it, and from the `results/<scale>/summary.json` of the
experiments; no number here is typed. The same as data: [claims.json](claims.json).

**The rule.** An effect is the mean over seeds of arm minus baseline, paired by seed, with its
Student t interval of 95 %; shares of runs have Newcombe's or Wilson's. Each comparison says which
direction is claimed and what is the smallest effect that matters. That was chosen by the metric and
not by the result, but after most of the experiments had been run.

- Claimed to be *higher* (or *lower*): **not supported** where the interval holds no effect in that
  direction as large as what matters, be it because there is none, because it is smaller, or because
  it is the other way round; else **supported** where it lies beyond 0 in that direction.
- Claimed to lose nothing (*no lower*, *no higher*) or to be *equal*: **supported** where the
  interval lies within what does not matter; **not supported** where it reaches beyond, and excludes
  0.
- **Undecided** where the interval holds both 0 and an effect that matters. The seeds that would
  decide are those with which, at the scatter seen, the interval is narrower than the smallest
  effect that matters, so that it cannot hold both.
- A claim of several cases **depends** where decided cases disagree; where they agree it is what
  they say if they are at least half of all, and else undecided.

*Detectable* is the smallest true effect that so many seeds find 4 times in 5. What is counted and
the same in every run, such as parameters, has no interval. The intervals are not corrected for
their number: of twenty with no effect behind them one is expected to exclude 0. All were measured
on CPUs; "gpu" in a command names the larger setting. What is said is said of these sets and
sizes; the pages of the experiments tell how far it goes.
"""


def ledger_page(rows: list[Entry]) -> str:
    """Lay the ledger out as Markdown: all verdicts first, then the evidence row by row."""
    claims = [claim for row in rows for claim in row["claims"]]
    verdicts = Counter(claim["verdict"].split(" on ")[0] for claim in claims)
    order = (SUPPORTED, NOT_SUPPORTED, "depends", UNDECIDED, NOT_YET)
    counts = ", ".join(f"{verdicts[v]} {v}" for v in order if verdicts[v])
    overview = [
        {
            "claim": f"[{claim['says']}](#{claim['id']})",
            "Q": _questions(row),
            "verdict": _verdict(claim),
        }
        for row in rows
        for claim in row["claims"]
    ]
    parts = [
        HEAD,
        "## Verdicts",
        f"{len(claims)} claims: {counts}.",
        markdown(overview),
        "## Evidence",
    ]
    for row in rows:
        parts.append(f"### {row['row']} (Q {_questions(row)})")
        for claim in row["claims"]:
            parts.append(f'<a id="{claim["id"]}"></a>**{claim["says"]}: {_verdict(claim)}.**')
            parts += [claim["note"]] if "note" in claim else []
            for case in claim["cases"]:
                if "by" in case:
                    parts.append(
                        (f"{case['when']}: by" if case["when"] else "By") + f" `{case['by']}`."
                    )
            if measured := [_line(case) for case in claim["cases"] if "shown" not in case]:
                parts.append(markdown(measured))
    return "\n\n".join(parts) + "\n"


def ledger_data(rows: list[Entry]) -> str:
    """Return the ledger as JSON: a list with an entry for each case of each claim."""
    keys = ("experiment", "scale", "command", "metric", "arm", "baseline", "kind", "matters")
    keys += ("effect", "ci95", "seeds", "detectable", "verdict", "needs")
    entries = [
        {
            "id": f"{claim['id']}: {case['when']}" if case["when"] else claim["id"],
            "claim": claim["says"],
            "row": row["row"],
            "questions": row["questions"],
            **{key: _rounded(case.get(key)) for key in keys},
            "unit": "ratio" if unit(case) == "×" else "difference",
            "shown_by": case.get("by"),
            "claim_verdict": claim["verdict"],
        }
        for row in rows
        for claim in row["claims"]
        for case in claim["cases"]
    ]
    return json.dumps(entries, indent=1, ensure_ascii=False) + "\n"


def _rounded(value: Any) -> Any:
    """Return numbers to six digits: the last of sixteen depend on the version of Python."""
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return float(f"{round(value, 9):.6g}") + 0.0 if isinstance(value, float) else value


def _line(case: Entry) -> dict[str, str]:
    name, sides = case["experiment"], [case["arm"], case["baseline"]]
    compared = (" / " if unit(case) == "×" else " − ").join(f"`{side}`" for side in sides if side)
    found = case.get("ci95")
    page = f"[{name}]({name}/README.md)"
    return {
        "case": case["when"] or NOTHING,
        "measured": f"{_metric(case)}: {compared}",
        "claimed (matters)": f"{case['kind']} ({_spell(case, case['matters'])})",
        "effect": _spell(case, case.get("effect"), found, signed=True),
        "95 %": _interval(case),
        "seeds": str(case.get("seeds", NOTHING)),
        "detectable": _spell(case, case.get("detectable"), found),
        "verdict": _decided(case),
        "by": " ".join([page, *(f"`{c}`" for c in case.get("command", "").splitlines())]),
    }


def _decided(case: Entry) -> str:
    if case["verdict"] != UNDECIDED:
        return case["verdict"]
    why = f"{case['missing']}; " if "missing" in case else ""
    return f"undecided: {why}{case['needs']} seeds would decide"


def _metric(case: Entry) -> str:
    waited = case["metric"].removeprefix(REACHED)
    return label(waited, {}) + (": runs that got there" if waited != case["metric"] else "")


def _interval(case: Entry) -> str:
    if bounds := case.get("ci95"):
        low, high = (_spell(case, bound, bounds, signed=True, named=False) for bound in bounds)
        return f"[{low}, {high}]"
    return "exact" if case["metric"] in EXACT and "effect" in case else NOTHING


def _spell(
    case: Entry,
    value: float | None,
    interval: list[float] | None = None,
    *,
    signed: bool = False,
    named: bool = True,
) -> str:
    """Spell a value in its unit, to two digits of the half-width of its interval, if it has one."""
    if value is None:
        return NOTHING
    kind = unit(case)
    scale = 100 if kind == "pp" else 1
    text = f"{abs(value) * scale:.3g}"
    if interval and interval[0] != interval[1]:
        places = decimals((interval[1] - interval[0]) / 2 * scale, 2)
        if value in interval and abs(value) > 1e-9 and not round(value * scale, places):
            places += 2  # on which side of 0 it ends is what a verdict may depend on
        text = f"{abs(value) * scale:.{places}f}"
    sign = "" if kind == "×" or float(text) == 0 else "−" if value < 0 else "+" if signed else ""
    before, after = ("×", "") if kind == "×" else ("", f" {kind}".rstrip())
    return f"{before}{sign}{text}{after}" if named else f"{sign}{text}"


def _questions(row: Entry) -> str:
    return ", ".join(map(str, row["questions"]))


def _verdict(claim: Entry) -> str:
    """The verdict, and how many cases have no part in it."""
    verdict, cases = claim["verdict"], claim["cases"]
    left = sum(case["verdict"] == UNDECIDED for case in cases)
    return verdict + (f" ({left} of {len(cases)} undecided)" if 0 < left < len(cases) else "")
