"""Programs here run once, so that most of the time goes into compiling them: compile them fast."""

import jax
import pytest
from short_tables import TABLES


@pytest.fixture(scope="package", autouse=True)
def unoptimised():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def short(monkeypatch):
    """Deep networks with tables of few lines."""
    for file, tables in TABLES.items():
        for table, rows in tables.items():
            monkeypatch.setattr(file, table, rows)
