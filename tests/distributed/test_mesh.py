"""Meshes from text, against the arithmetic of their sizes."""

import os
import subprocess
import sys

import jax
import pytest

from research.config import UserError
from research.distributed.mesh import (
    batch_sharding,
    batch_shards,
    cores,
    host_devices,
    lanes,
    make_mesh,
    mesh_sizes,
    parse_mesh,
)


def sizes(seed=1, data=1, fsdp=1, model=1):
    return {"seed": seed, "data": data, "fsdp": fsdp, "model": model}


@pytest.mark.parametrize(
    ("text", "devices", "span", "expected"),
    [
        ("", 1, "", sizes()),
        ("", 8, "", sizes(seed=8)),
        ("data:4,model:2", 8, "", sizes(data=4, model=2)),
        ("data:4", 8, "", sizes(seed=2, data=4)),
        ("data:-1,model:2", 8, "", sizes(data=4, model=2)),
        ("seed:2,fsdp:4", 8, "", sizes(seed=2, fsdp=4)),
        ("seed:1,data:2", 8, "", sizes(data=2)),
        ("", 4, "2 processes", sizes(data=4)),
        ("fsdp:-1", 4, "2 processes", sizes(fsdp=4)),
    ],
)
def test_sizes(text, devices, span, expected):
    assert mesh_sizes(text, devices, span) == expected


@pytest.mark.parametrize(
    ("text", "devices", "span", "words"),
    [
        ("data:3", 8, "", ["'data:3'", "takes 3", "8 here", "nearest: 2"]),
        ("data:16", 8, "", ["takes 16", "nearest: 8"]),
        ("data:2", 4, "2 processes", ["takes 2", "the 4 of", "2 processes"]),
        ("seed:2,data:2", 4, "2 processes", ["seed:2", "expected 1"]),
    ],
)
def test_a_mesh_that_does_not_multiply_out(text, devices, span, words):
    with pytest.raises(UserError) as error:
        mesh_sizes(text, devices, span)
    assert all(word in str(error.value) for word in words), error.value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("dta:4", ["'dta'", "'data'"]),
        ("data:4,data:2", ["data", "twice"]),
        ("data:-1,model:-1", ["-1 twice"]),
        ("data", ["'data'", "data:n"]),
        ("data:0", ["'data:0'"]),
        ("data:-2", ["'data:-2'"]),
        ("data:two", ["'data:two'"]),
    ],
)
def test_a_text_that_is_no_mesh(text, words):
    with pytest.raises(UserError) as error:
        parse_mesh(text)
    assert all(word in str(error.value) for word in ["--mesh", *words]), error.value


def test_a_batch_is_split_over_data_and_fsdp():
    mesh = make_mesh(jax.devices(), {"data": 2, "fsdp": 2, "model": 2})
    assert batch_shards(mesh) == 4
    held = batch_sharding(mesh).devices_indices_map((8, 3))
    assert sorted({(rows.start, rows.stop) for rows, _ in held.values()}) == [
        *((0, 2), (2, 4), (4, 6), (6, 8))
    ]


def test_runs_side_by_side_have_devices_of_their_own_but_for_a_cpus_cores():
    each = lanes("seed:2,data:4")
    assert [[d.id for d in mesh.devices.flat] for mesh in each] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert len(lanes("")) == cores() and len({mesh.devices.item() for mesh in lanes("")}) == 1
    assert len(lanes("seed:1")) == 1


def test_host_devices_are_those_of_the_largest_mesh():
    assert host_devices(["", "data:4,model:2", "data:-1"]) == 8


@pytest.mark.parametrize(
    ("flags", "expected"), [("", 6), (" --xla_force_host_platform_device_count=3", 3)]
)
def test_host_devices_are_as_the_mesh_needs_unless_the_user_says_how_many(flags, expected):
    code = (
        "from research.distributed.startup import start; start(deterministic=False, devices=6); "
        "import jax; print(jax.device_count())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"XLA_FLAGS": flags},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.split() == [str(expected)], done.stderr
