"""Deep networks, made shorter."""

import pytest
from short_tables import SHORTEST, TABLES


@pytest.fixture
def short(monkeypatch):
    """Deep networks with tables of few lines."""
    put(TABLES, monkeypatch)


@pytest.fixture
def shortest(monkeypatch):
    """Deep networks with tables of even fewer."""
    put(SHORTEST, monkeypatch)


def put(tables, monkeypatch):
    """Put tables in place of the papers'."""
    for file, names in tables.items():
        for name, rows in names.items():
            monkeypatch.setattr(file, name, rows)
