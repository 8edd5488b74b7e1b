"""Times of collectives and of steps, against closed forms and published worked examples."""

import math
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from research.config import UserError
from research.distributed import hlo
from research.distributed.chips import CHIPS, Torus
from research.distributed.collectives import Collective
from research.distributed.cost import (
    Work,
    cost,
    largest_batch,
    peak,
    strong_scaling,
    weak_scaling,
    work,
)
from research.distributed.mesh import make_mesh
from research.distributed.network import Layout, Span, layout

ONE = Span()
V5E, H100 = CHIPS["v5e"], CHIPS["h100"]
US = 1e-6


def placed(chip, shape, **axes):
    """A layout; axes that are not named have one place."""
    alone = (ONE,) * len(shape)
    named = {"data": alone, "fsdp": alone, "model": alone} | axes
    return Layout(chip.network, shape, named)


def seconds(where, kind, nbytes, axis="data"):
    return where.seconds(Collective(kind, nbytes, 1, 0, (axis,)))


def test_along_a_ring_of_16():
    ring = placed(V5E, (16, 2), data=(Span(16), ONE))
    once = 1e9 * 15 / 16 / 90e9 + 8 * US
    assert seconds(ring, "all-gather", 1e9) == pytest.approx(once)
    assert seconds(ring, "reduce-scatter", 1e9) == pytest.approx(once)
    assert seconds(ring, "all-reduce", 1e9) == pytest.approx(2 * once)
    # Half of all numbers, 16 · V / 2, crosses the middle, half of it each way over two links.
    assert seconds(ring, "all-to-all", 1e9) == pytest.approx(16e9 / 4 / 90e9 + 8 * US)
    assert seconds(ring, "collective-permute", 1e9) == pytest.approx(1e9 / 45e9 + US)


def test_along_both_sides_of_a_pod():
    pod = placed(V5E, (16, 16), data=(Span(16), Span(16)))
    once = 1e9 * 255 / 256 / 180e9 + 16 * US
    assert seconds(pod, "all-reduce", 1e9) == pytest.approx(2 * once)


def test_a_line_of_four_as_the_book_has_it():
    """How to Scale Your Model, part 3, quiz 2: an all-gather of bf16[2048, 8192], 560 µs."""
    line = placed(V5E, (8, 4), model=(ONE, Span(4)))
    found = seconds(line, "all-gather", 2 * 2048 * 8192, "model")
    assert found == pytest.approx(560 * US + 3 * US, rel=0.01)


def test_a_node_of_eight_as_the_book_has_it():
    """Part 12, quiz 2, question 3: an all-gather of bf16[4096, 65536] takes 1.04 ms."""
    node = placed(H100, (1, 8), data=(ONE, Span(8)))
    latency = 4.4 * US + 7 * 1.872 * US / 2
    found = seconds(node, "all-gather", 2 * 4096 * 65536)
    assert found - latency == pytest.approx(1.04e-3, rel=0.01)


def test_between_nodes_the_adapters_carry_it():
    """All GPUs of a node send at once, 400 GB/s together, and doublings of nodes cost latency."""
    nodes = placed(H100, (16, 8), data=(Span(16), Span(8)))
    latency = 4.4 * US + 7 * 1.872 * US + 4 * 10 * US
    expected = 2 * (1e9 * 7 / 8 / 450e9 + 1e9 * 15 / 16 / 400e9) + latency
    assert seconds(nodes, "all-reduce", 1e9) == pytest.approx(expected)


def test_groups_that_lie_between_one_another_share_links():
    apart = placed(V5E, (16, 2), data=(Span(8, 2), ONE), model=(Span(2, 1), ONE))
    alone = placed(V5E, (16, 2), data=(Span(16), ONE))
    slow, fast = (seconds(each, "all-gather", 1e9) for each in (apart, alone))
    assert slow == pytest.approx(1e9 * 7 / 8 / 45e9 + 8 * US)
    assert slow > 1.8 * fast


def test_one_device_sends_nothing():
    assert seconds(placed(V5E, (2, 2)), "all-reduce", 1e9) == 0


def simulated_all_gather(k, nbytes, link, hop):
    """Every chip of a ring passes on, both ways, what it got the time before."""
    chunk, done = nbytes / k, 0.0
    have = [{i} for i in range(k)]
    left = right = [{i} for i in range(k)]
    while any(len(each) < k for each in have):
        right = [right[(i - 1) % k] - have[i] for i in range(k)]
        left = [left[(i + 1) % k] - have[i] - right[i] for i in range(k)]
        have = [have[i] | right[i] | left[i] for i in range(k)]
        done += max(len(each) for each in [*left, *right]) * chunk / link + hop
    return done


@pytest.mark.parametrize("k", [4, 8, 16])
def test_an_all_gather_simulated_hop_by_hop(k):
    ring = Layout(Torus(1e9, 1e-6, "multiple of 4"), (k,), {"data": (Span(k),)})
    expected = simulated_all_gather(k, 1e6, 1e9, 1e-6)
    # In the last round of a ring of even length one of two ways is idle.
    assert seconds(ring, "all-gather", 1e6) == pytest.approx(expected, rel=1 / k)


def test_where_axes_lie_on_chips(tpus):
    sizes = {"data": 2, "fsdp": 1, "model": 2}
    found = layout(make_mesh(tpus, sizes), V5E.network, (2, 2))
    assert found.size == 4 and found.shape == (2, 2)
    assert found.axes["fsdp"] == (ONE, ONE)
    for axis in ("data", "model"):  # JAX goes around the square, so that one runs diagonally
        assert sorted(found.axes[axis]) == [ONE, Span(2)]
    found = layout(make_mesh(tpus), V5E.network, (2, 2))
    assert found.axes["data"] == (Span(2), Span(2))


def test_where_axes_lie_in_nodes():
    mesh = make_mesh(jax.devices(), {"data": 4, "model": 2})
    found = layout(mesh, H100.network, (2, 4))
    assert found.axes["model"] == (ONE, Span(2, 1))
    assert found.axes["data"] == (Span(2, 1), Span(2, 2))


def test_smaller_machines():
    where = placed(V5E, (16, 8), data=(Span(8, 2), Span(8)), model=(Span(2), ONE))
    sizes = [where.size]
    while where := where.smaller():
        sizes.append(where.size)
        spans = zip(*where.axes.values(), strict=True)
        assert all(
            math.prod(s.size for s in side) <= n for side, n in zip(spans, where.shape, strict=True)
        )
    assert sizes == [128, 64, 32, 16, 8, 4, 2]


def test_smaller_clusters_have_fewer_nodes():
    where = placed(H100, (4, 8), data=(Span(4), Span(8)))
    shapes = []
    while where := where.smaller():
        shapes.append(where.shape)
    assert shapes == [(2, 8), (1, 8), (1, 4), (1, 2), (1, 1)]


DONE = Work(flops=10**12, nbytes=10**10, seconds=0.02)
GRADIENT = Collective("all-reduce", 10**8, 1, 256, ("data",))
POD = placed(V5E, (16, 16), data=(Span(16), Span(16)))


def test_a_step_is_its_chip_and_its_network():
    found = cost(DONE, [GRADIENT], V5E, "bfloat16", POD)
    assert found.compute == pytest.approx(1 / 197)
    assert found.memory == pytest.approx(10 / 819)
    assert found.communication == pytest.approx(POD.seconds(GRADIENT))
    assert found.step == pytest.approx(0.02 + found.communication)
    assert found.overlapped == 0.02
    assert found.bound == "memory"
    assert cost(DONE, [GRADIENT._replace(times=99)], V5E, "bfloat16", POD).bound == "network"


def test_weak_scaling():
    points = weak_scaling(DONE, [GRADIENT], V5E, "bfloat16", POD)
    assert [point.chips for point in points] == [2**i for i in range(9)]
    assert points[0].efficiency == 1 and points[0].seconds == 0.02
    last = points[-1]
    assert last.efficiency == pytest.approx(0.02 / (0.02 + POD.seconds(GRADIENT)))
    assert all(p.efficiency == 1 for p in weak_scaling(DONE, [], V5E, "bfloat16", POD))


def test_strong_scaling():
    points = strong_scaling(DONE, [], V5E, "bfloat16", POD, state_bytes=0)
    assert all(point.efficiency == pytest.approx(1) for point in points)
    assert points[0].seconds == pytest.approx(256 * 0.02)
    # The optimiser's work does not shrink with the rows.
    points = strong_scaling(DONE, [], V5E, "bfloat16", POD, state_bytes=10**9)
    fixed = 2 * 10**9 / 819e9
    assert points[0].seconds == pytest.approx(fixed + 256 * (0.02 - fixed))
    assert points[-1].efficiency < 0.9


def test_activations_grow_with_the_rows_and_gradients_do_not():
    where = placed(V5E, (4, 2), data=(Span(4), ONE), model=(ONE, Span(2)))
    each = [Collective("all-reduce", 10**8, 1, 2, (axis,)) for axis in ("data", "model")]
    one, two = (cost(DONE, each, V5E, "bfloat16", where, rows=n).network for n in (1, 2))
    assert two["data",] == one["data",]
    assert two["model",] == pytest.approx(2 * one["model",], rel=0.01)


def test_the_work_of_a_product():
    shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((64, 256), (256, 128))]
    compiled = jax.jit(jnp.matmul).lower(*shapes).compile()
    chip = SimpleNamespace(name="slow", flops={"float32": 1e6}, bandwidth=1e6)
    found = work(hlo.parse(compiled.as_text()), chip, "float32")
    assert found.flops == 2 * 64 * 256 * 128
    assert found.nbytes == 4 * (64 * 256 + 256 * 128 + 64 * 128)
    assert found.seconds == pytest.approx(found.flops / 1e6)


def test_a_chip_without_float64():
    with pytest.raises(UserError, match="found 'float64', for which v5e has no unit; expected"):
        peak(V5E, "float64")
    assert peak(H100, "float64") == 66.9e12


def test_the_largest_batch():
    # 1 GB of state, and 10 MB for each of 64 rows.
    assert largest_batch(16e9, 10**9 + 64 * 10**6, 64 * 9 * 10**6, 64 * 10**6, 64) == 1500
    assert largest_batch(1e9, 2 * 10**9, 10**6, 0, 8) == 0
