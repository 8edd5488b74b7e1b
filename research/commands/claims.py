"""`--mode=claims`: the ledger of what is claimed, from the committed results."""

from pathlib import Path

from research.experiment import HERE
from research.files import write
from research.report.claims import read_claims
from research.report.ledger import ledger_data, ledger_page


def write_claims(folder: Path = HERE) -> None:
    """Write `README.md` and `claims.json` into the folder of the experiments.

    Raises:
        UserError: a claim names an arm or a metric that its experiment has not.
    """
    rows = read_claims(folder)
    for name, content in (("README.md", ledger_page(rows)), ("claims.json", ledger_data(rows))):
        print(f"Written: {write(folder / name, content)}")
