"""Machines by name: what there is, and what is said of what there is not."""

import importlib.util
import subprocess
import sys
import time

import pytest

from research.config import UserError
from research.distributed.chips import CHIPS, DATA, Nodes, Torus
from research.distributed.topology import parse_topology


@pytest.mark.parametrize(
    ("name", "size", "platform"),
    [
        ("v5e:16x16", 256, "tpu"),
        ("v4:4x4x4", 64, "tpu"),
        ("v5p:8x16x16", 2048, "tpu"),
        ("v6e:2x2", 4, "tpu"),
        ("h100:32x8", 256, "gpu"),
        ("a100:1x4", 4, "gpu"),
    ],
)
def test_a_name_says_how_many_chips(name, size, platform):
    found = parse_topology(name)
    assert (found.size, found.platform) == (size, platform)


BAD = {
    "v9:2x2": "expected one of the chips",
    "v5:16x16": "did you mean 'v5p'|did you mean 'v5e'",
    "v5e": "expected v5e:2 sides, such as v5e:16x16",
    "v5e:16x": "expected v5e:2 sides",
    "v5e:4x4x4": "expected v5e:2 sides",
    "v5e:3x5": "multiples of 2x2, .*nearest: v5e:4x4",
    "v5e:32x32": "nearest: v5e:16x16",
    "v5e:0x4": "expected v5e:2 sides",
    "v5p:16x16x16": "2048 chips in all; nearest: v5p:",
    "h100:3000x8": "nearest: h100:256x8",
    "h100:2x16": "nearest: h100:2x8",
    "h100:8": "expected h100:nodes and the GPUs of each",
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_names_the_nearest(name):
    began = time.monotonic()
    with pytest.raises(UserError, match=BAD[name]):
        parse_topology(name)
    assert time.monotonic() - began < 1


def test_the_nearest_of_what_cannot_be_can():
    for name in ("v5e:3x5", "v5e:32x32", "v5p:16x16x16", "v4:5x7x9", "h100:3000x8", "h100:2x16"):
        with pytest.raises(UserError) as error:
            parse_topology(name)
        parse_topology(str(error.value).rpartition("nearest: ")[2])


def test_without_libtpu_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'pip install "ablate\[plan\]"'):
        parse_topology("v5e:2x2").devices()


def test_a_cluster_takes_devices_of_the_host():
    assert len(parse_topology("h100:1x8").devices()) == 8
    with pytest.raises(UserError, match="compiled for 16 devices of the host, found 8"):
        parse_topology("h100:2x8").devices()


def test_chips_that_are_not_here(tpus):
    assert sorted(tuple(device.coords) for device in tpus) == [
        (0, 0, 0),
        (0, 1, 0),
        (1, 0, 0),
        (1, 1, 0),
    ]


def test_a_v4_is_one_device(tpus):
    assert len(parse_topology("v4:2x2x1").devices()) == 4


def test_libtpu_complains_of_nothing(tpus):
    code = "from research.distributed.topology import parse_topology as p; p('v5e:2x2').devices()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_every_figure_has_its_source():
    for name, chip in CHIPS.items():
        assert chip.sources, name
        assert all(source.startswith("https://") for source in chip.sources)
        assert chip.flops["bfloat16"] > 1e14 and chip.bandwidth > 1e11 and chip.memory > 1e10
    cited = {
        s for kind in ("tpu", "gpu") for facts in DATA[kind].values() for s in facts["sources"]
    }
    assert cited == DATA["sources"].keys()


def test_rings_close_where_the_makers_say():
    assert CHIPS["v5e"].network.closes(16) and not CHIPS["v5e"].network.closes(8)
    assert CHIPS["v5p"].network.closes(8) and not CHIPS["v5p"].network.closes(2)
    assert isinstance(CHIPS["v4"].network, Torus) and isinstance(CHIPS["h100"].network, Nodes)
