import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import multihost_utils

from research.train.checkpoint import (
    Checkpoints,
    DamagedCheckpoint,
    abstract,
    score,
    set_aside,
)
from research.train.state import TrainState


def state_at(step, dtype=jnp.float32):
    params = {"dense": {"kernel": jnp.full((40, 30), 1 / (step + 3), dtype)}}
    return TrainState(
        jnp.asarray(step, jnp.int32),
        params,
        {"batch_stats": {"mean": jnp.ones(3, jnp.bfloat16) / 3}},
        ({"learning_rate": jnp.asarray(0.1, jnp.float32)},),
        jax.random.fold_in(jax.random.key(7), step),
        {"dense": {"kernel": jnp.ones((40, 30), dtype)}},
    )


@pytest.fixture
def checkpoints(tmp_path):
    opened = []

    def make(keep=2, say=pytest.fail):
        opened.append(Checkpoints(tmp_path / "checkpoints", keep, say))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def save(checkpoints, scores, first=1):
    """Save steps `first`, … with these validation accuracies and losses."""
    for step, (accuracy, loss) in enumerate(scores, start=first):
        metrics = {"validation/accuracy": accuracy, "validation/loss": loss}
        checkpoints.save(state_at(step), metrics, {"position": step})
        checkpoints.wait()


def truncate(folder):
    """Cut off every file of some size, as a full disk or a power cut does."""
    files = [folder] if folder.is_file() else [f for f in folder.rglob("*") if f.is_file()]
    assert any(f.stat().st_size > 8 for f in files)
    for file in files:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def steps_in(folder):
    return sorted(int(f.name) for f in folder.iterdir() if f.name.isdigit())


def test_ranking():
    def rank(accuracy, loss):
        return score({"validation/accuracy": accuracy, "validation/loss": loss})

    assert rank(0.9, 5.0) > rank(0.8, 0.1)
    assert rank(0.9, 0.1) > rank(0.9, 0.2) > rank(0.9, float("nan"))
    assert rank(0.9, None) == rank(0.9, float("inf")) == rank(0.9, float("nan"))


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_every_bit_comes_back(checkpoints, precision):
    with jax.enable_x64(precision == "float64"):
        state = state_at(4, precision)
        metrics = {"validation/accuracy": 0.5, "validation/loss": 1.0}
        mine = checkpoints()
        mine.save(state, metrics, {"position": 4})
        mine.wait()
        restored, position = checkpoints().restore_latest(abstract(state))
    assert position == {"position": 4}
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    assert restored.params["dense"]["kernel"].dtype == precision

    def bits(x):
        x = jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x
        return np.asarray(x).tobytes(), x.dtype, x.shape

    assert jax.tree.map(bits, restored) == jax.tree.map(bits, state)


def test_the_last_k_and_the_best_are_kept(checkpoints, tmp_path):
    mine = checkpoints(keep=2)
    save(mine, [(0.5, 1.0), (0.9, 0.5), (0.9, 0.4), (0.7, 0.1), (0.8, 0.1)])
    mine.close()
    assert steps_in(tmp_path / "checkpoints") == [3, 4, 5]
    best, position = checkpoints().restore(3, abstract(state_at(0)))
    assert position == {"position": 3}
    np.testing.assert_array_equal(best.params["dense"]["kernel"], np.float32(1 / 6))


def test_a_save_does_not_ask_for_a_preemption(checkpoints, monkeypatch):
    """Its question would take the place of the loop's, and a notice between them be lost."""
    asked = []
    monkeypatch.setattr(multihost_utils, "reached_preemption_sync_point", asked.append)
    save(checkpoints(), [(0.5, 1.0), (0.9, 0.5)])
    assert not asked


def test_the_later_of_two_equals_is_the_best_and_is_kept(checkpoints, tmp_path):
    mine = checkpoints(keep=1)
    nan = float("nan")
    save(mine, [(0.9, 0.5), (0.9, 0.5), (0.1, nan)])
    mine.close()
    assert steps_in(tmp_path / "checkpoints") == [2, 3]


def test_nothing_to_restore(checkpoints):
    mine = checkpoints()
    assert mine.restore_latest(abstract(state_at(0))) is None
    with pytest.raises(DamagedCheckpoint, match=r"checkpoints/3: .*is gone"):
        mine.restore(3, abstract(state_at(0)))


def test_a_save_that_was_cut_off_is_not_read(checkpoints, tmp_path):
    mine = checkpoints()
    save(mine, [(0.5, 1.0)])
    mine.close()
    folder = tmp_path / "checkpoints"
    cut_off = folder / "2.orbax-checkpoint-tmp-123"
    (folder / "1").rename(cut_off)
    assert checkpoints().restore_latest(abstract(state_at(0))) is None


@pytest.mark.parametrize("part", ["", "metrics", "state", "data", "_CHECKPOINT_METADATA"])
def test_a_truncated_checkpoint_falls_back_to_the_one_before(checkpoints, tmp_path, part):
    mine = checkpoints()
    save(mine, [(0.5, 1.0), (0.6, 0.9)])
    mine.close()
    folder, said = tmp_path / "checkpoints", []
    for _ in range(2):  # a second time at the same step, too
        truncate(folder / "2" / part)
        again = checkpoints(say=said.append)
        restored, position = again.restore_latest(abstract(state_at(0)))
        if part == "_CHECKPOINT_METADATA":  # Orbax can do without
            assert position == {"position": 2} and not said
            return
        assert position == {"position": 1} and int(restored.step) == 1
        np.testing.assert_array_equal(restored.params["dense"]["kernel"], np.float32(1 / 4))
        assert len(said) == 1 and str(folder / "2") in said.pop() and steps_in(folder) == [1]
        save(again, [(0.6, 0.9)], first=2)
        again.close()
    assert len(list(tmp_path.glob("unreadable_checkpoint_2*"))) == 2
    assert checkpoints().restore(2, abstract(state_at(0)))[1] == {"position": 2}


def test_a_checkpoint_that_lacks_its_metrics_is_passed_over(checkpoints, tmp_path):
    mine, said = checkpoints(), []
    save(mine, [(0.5, 1.0), (0.6, 0.9)])
    mine.close()
    (tmp_path / "checkpoints" / "2" / "metrics" / "metrics").unlink()
    again = checkpoints(say=said.append)
    assert again.restore_latest(abstract(state_at(0)))[1] == {"position": 1}
    assert len(said) == 1


def test_what_a_cut_deletion_left_is_cleared_quietly(checkpoints, tmp_path):
    mine = checkpoints(keep=3)
    save(mine, [(0.5, 1.0), (0.6, 0.9), (0.7, 0.8)])
    mine.close()
    (tmp_path / "checkpoints" / "1" / "metrics" / "metrics").unlink()
    again = checkpoints(keep=3)  # saying anything would fail the test
    assert again.restore_latest(abstract(state_at(0)))[1] == {"position": 3}
    assert steps_in(tmp_path / "checkpoints") == [2, 3]


def test_the_best_checkpoint_that_cannot_be_read_is_an_error_that_names_it(checkpoints, tmp_path):
    mine = checkpoints()
    save(mine, [(0.9, 1.0), (0.6, 0.9)])
    mine.close()
    truncate(tmp_path / "checkpoints" / "1" / "state")
    with pytest.raises(DamagedCheckpoint, match=r"checkpoints/1: .*cannot be read"):
        checkpoints().restore(1, abstract(state_at(0)))


def test_setting_aside_takes_all_that_came_after_and_deletes_nothing(checkpoints, tmp_path):
    mine = checkpoints(keep=3)
    save(mine, [(0.5, 1.0), (0.6, 0.9), (0.7, 0.8)])
    mine.close()
    set_aside(tmp_path / "checkpoints", 2)
    assert steps_in(tmp_path / "checkpoints") == [1]
    assert len(list(tmp_path.glob("unreadable_checkpoint_[23]_*/state"))) == 2
