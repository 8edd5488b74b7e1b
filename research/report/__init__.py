"""Reads run directories, nothing else: statistics, plots, pages.

Example:
    >>> print_table("runs/norms")  # doctest: +SKIP
    >>> report("runs/norms") / "index.html"  # doctest: +SKIP
"""

from research.report.document import report
from research.report.publication import publish
from research.report.tables import print_table, table

__all__ = ["print_table", "publish", "report", "table"]
