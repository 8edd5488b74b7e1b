"""Programs here run once, so that most of the time goes into compiling them: compile them fast."""

import jax
import pytest


@pytest.fixture(scope="package", autouse=True)
def unoptimised():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
