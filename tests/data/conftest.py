import pytest

from research.data.sources import load_dataset


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """A folder of prepared sets that holds digits."""
    root = tmp_path_factory.mktemp("prepared")
    load_dataset("digits", str(root))
    return root


@pytest.fixture(scope="session")
def digits(data_dir):
    return load_dataset("digits", str(data_dir))
