"""What the tests of arms that start from other arms share."""

import pytest

from research.commands.train import run_study
from research.experiment import resolve


@pytest.fixture(scope="module")
def ask(request, tmp_path_factory):
    """Resolve the module's `EXPERIMENT` in a folder of the module's own, with its `SEEDS`."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "question.py").write_text(request.module.EXPERIMENT)

    def ask(arms=(), seeds=request.module.SEEDS, **options):
        where = {"workdir": str(folder / "w"), "arms": arms, "seeds": seeds}
        return resolve(str(folder / "question.py"), "laptop", **where, **options)

    return ask


@pytest.fixture(scope="module")
def trained(ask):
    """That study, when it has run."""
    study = ask()
    run_study(study, None, "test")
    return study
