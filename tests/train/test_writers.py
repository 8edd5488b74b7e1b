import json
import math
import struct
import time

import pytest
from tensorboardX.proto.event_pb2 import Event

from research.config import UserError
from research.files import read_rows, write_json
from research.train.writers import Writers


def open_writers(directory, start=0, **changes):
    directory.mkdir(exist_ok=True)
    return Writers(directory, start, **({"tensorboard": False, "wandb": None} | changes))


def scalars(folder):
    """Read TensorBoard event files by hand: length, checksum, event, checksum."""
    found = []
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            event = Event.FromString(data[12 : 12 + length])
            found += [(v.tag, event.step, v.simple_value) for v in event.summary.value]
            data = data[16 + length :]
    return found


def test_json_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "result.json"
    write_json(path, {"a": 1})
    for bad in ({"a": math.nan}, {"a": object()}):
        with pytest.raises((ValueError, TypeError)):
            write_json(path, bad)
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in path.parent.iterdir()] == ["result.json"]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    write_json(path, {"a": 1})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(UserError, match="No space left"):
        write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]


def test_rows_are_read_up_to_where_a_kill_cut_them_off(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert read_rows(path) == []
    path.write_text('{"step": 1}\n{"step": 2, "train/loss": 0.5}\n{"step": 3, "tra')
    assert read_rows(path) == [{"step": 1}, {"step": 2, "train/loss": 0.5}]


def test_rows_after_the_step_it_starts_from_are_dropped(tmp_path):
    writers = open_writers(tmp_path)
    for step in (1, 2, 3):
        writers.write(step, {"train/loss": 1 / step})
    writers.close()
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 4, "tr')
    writers = open_writers(tmp_path, start=2)
    assert [row["step"] for row in writers.rows] == [1, 2]
    writers.write(3, {"train/loss": 0.25})
    writers.close()
    assert read_rows(path) == [
        {"step": 1, "train/loss": 1.0},
        {"step": 2, "train/loss": 0.5},
        {"step": 3, "train/loss": 0.25},
    ]


def test_a_row_is_on_disk_as_soon_as_it_is_written(tmp_path):
    writers = open_writers(tmp_path)
    writers.write(1, {"train/loss": 0.5})
    assert read_rows(tmp_path / "metrics.jsonl") == [{"step": 1, "train/loss": 0.5}]
    writers.close()


def test_what_is_not_finite_is_null(tmp_path):
    writers = open_writers(tmp_path, tensorboard=True)
    writers.write(1, {"a": math.nan, "b": math.inf, "c": 2.0})
    writers.close()
    text = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {
        "step": 1,
        "a": None,
        "b": None,
        "c": 2.0,
    }


def test_tensorboard_events(tmp_path):
    writers = open_writers(tmp_path, tensorboard=True)
    writers.write(1, {"train/loss": 0.5})
    writers.write(2, {"train/loss": 0.25, "validation/accuracy": 0.75})
    writers.close()
    assert scalars(tmp_path / "tensorboard") == [
        ("train/loss", 1, 0.5),
        ("train/loss", 2, 0.25),
        ("validation/accuracy", 2, 0.75),
    ]


@pytest.mark.filterwarnings("ignore")  # W&B's own
def test_wandb_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    for name, value in {"MODE": "offline", "SILENT": "true"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    for name in ("CACHE_DIR", "CONFIG_DIR", "DATA_DIR"):
        monkeypatch.setenv(f"WANDB_{name}", str(tmp_path / "home"))
    run = {"project": "p", "group": "g", "name": "n", "id": "i", "config": {"a": {"b": 1}}}
    writers = open_writers(tmp_path / "run", wandb=run)
    writers.write(1, {"train/loss": 0.5})
    writers.close()
    (record,) = (tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb")
    deadline = time.monotonic() + 30  # W&B's own process may write after `finish` has returned
    while b"train/loss" not in record.read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.1)
