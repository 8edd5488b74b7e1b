"""What a run says of its use of the devices, against the clock and the model's arithmetic."""

import json

import jax
import pytest

from research.distributed.chips import CHIPS, peak_flops
from research.distributed.mesh import make_mesh
from research.train import utilization
from research.train.utilization import Meter, Tracer, summarized


def rows_of(directory):
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def used(row):
    prefix = "utilization/"
    return {k.removeprefix(prefix): v for k, v in row.items() if k.startswith(prefix)}


def test_the_shares_and_speeds_of_a_window(mesh, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(utilization.time, "perf_counter", lambda: now[0])
    meter = Meter(mesh, step_flops=3e6, precision="float32", communication=0.0)
    with meter.waiting():
        now[0] += 0.03
    now[0] += 0.09
    found = used(meter.row(4))
    assert found.pop("peak_mb") > 50  # of the process: there are Python and JAX in it
    # One CPU, of no known peak.
    assert found == pytest.approx({"step_ms": 30, "gflops": 0.1, "input_wait": 0.25})
    meter.begin()
    now[0] += 0.01
    assert used(meter.row(1))["step_ms"] == pytest.approx(10)


def test_a_run_is_summed_up_without_its_first_row():
    rows = [
        {"step": i, "utilization/step_ms": ms, "utilization/peak_mb": 9 - i, "x": 1.0}
        for i, ms in enumerate((50.0, 3.0, 1.0, 2.0))
    ]
    assert summarized(rows) == {"step_ms": 2.0, "peak_mb": 9}
    assert summarized(rows[:1]) == {"step_ms": 50.0, "peak_mb": 9}


def test_a_run_on_eight_devices_tells_what_they_say_to_one_another(train_run, tmp_path):
    changes = {"train.mesh": "data:8"}
    result = train_run(changes=changes, on=make_mesh(jax.devices()[:8]))
    found = result["utilization"]
    size = 4 * result["parameters"]
    # Each gradient once, in float32; beside it the loss, the accuracy and the count.
    assert size <= 1e6 * found["communication_mb"] <= 1.1 * size
    assert 0 < found["communication"] <= 1 and found["padding"] == 0
    assert found["state_mb"] > size / 1e6
    assert found["gflops"] * found["step_ms"] == pytest.approx(
        6 * result["macs"] * 32 / 1e6, rel=0.5
    )
    assert result["layout"]["mesh"] == {"data": 8, "fsdp": 1, "model": 1}
    assert all({"step_ms", "input_wait"} <= used(row).keys() for row in rows_of(tmp_path / "run"))


def test_a_trace_of_some_steps(train_run, tmp_path, monkeypatch):
    monkeypatch.setattr(Tracer, "_taken", False)
    said = []
    train_run(changes={"train.profile": "2:3"}, say=said.append)
    assert list((tmp_path / "run" / "profile").rglob("*.xplane.pb"))
    assert any("profile of steps 2 to 3" in line for line in said)


def test_peaks_are_those_of_the_chip_that_jax_names():
    assert peak_flops("NVIDIA H100 80GB HBM3", "bfloat16") == CHIPS["h100"].flops["bfloat16"]
    assert peak_flops("TPU v5 lite", "bfloat16") == CHIPS["v5e"].flops["bfloat16"]
    assert peak_flops("TPU v5", "bfloat16") == CHIPS["v5p"].flops["bfloat16"]
    assert peak_flops("cpu", "float32") is None and peak_flops("TPU v4", "float64") is None
