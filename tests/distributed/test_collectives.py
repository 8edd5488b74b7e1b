"""Collectives and work of compiled programs, against closed forms and XLA's own count."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from research.distributed import hlo
from research.distributed.collectives import Collective, axes_of, collectives, groups
from research.distributed.work import flops, traffic

SIZES = {"data": 2, "fsdp": 2, "model": 2}


def mesh_of(devices, sizes):
    devices = np.array(devices[: np.prod(list(sizes.values()))]).reshape(*sizes.values())
    return Mesh(devices, tuple(sizes), axis_types=(AxisType.Auto,) * len(sizes))


def compile_mapped(function, in_spec, out_spec, *shapes, sizes=SIZES):
    mesh = mesh_of(jax.devices(), sizes)
    mapped = jax.shard_map(
        function, mesh=mesh, in_specs=in_spec, out_specs=out_spec, check_vma=False
    )
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return hlo.parse(jax.jit(mapped).lower(*arguments).compile().as_text())


def total(program, measure):
    return sum(run.times * measure(run.op, run.computation, program) for run in program.runs())


@pytest.mark.parametrize(
    ("function", "out_spec", "kind", "nbytes"),
    [
        (lambda x: jax.lax.psum(x, "model"), P("data"), "all-reduce", 4 * 16 * 24),
        (
            lambda x: jax.lax.all_gather(x, "model", tiled=True),
            P("data"),
            "all-gather",
            2 * 4 * 16 * 24,
        ),
        (
            lambda x: jax.lax.psum_scatter(x, "model", tiled=True),
            P(("data", "model")),
            "reduce-scatter",
            4 * 16 * 24,
        ),
        (
            lambda x: jax.lax.all_to_all(x, "model", 0, 1, tiled=True),
            P(("data", "model")),
            "all-to-all",
            4 * 16 * 24,
        ),
        (
            lambda x: jax.lax.ppermute(x, "model", [(0, 1), (1, 0)]),
            P("data"),
            "collective-permute",
            4 * 16 * 24,
        ),
    ],
)
def test_each_kind_has_its_bytes_and_its_axis(function, out_spec, kind, nbytes):
    program = compile_mapped(function, P("data"), out_spec, (32, 24))
    assert collectives(program, SIZES) == [Collective(kind, nbytes, 1, 2, ("model",))]


@pytest.mark.parametrize("axes", [("data",), ("data", "fsdp"), ("data", "model"), tuple(SIZES)])
def test_axes_that_are_added_over(axes):
    program = compile_mapped(lambda x: jax.lax.psum(x, axes), P(), P(), (8,))
    (found,) = collectives(program, SIZES)
    assert found.axes == axes and found.size == 2 ** len(axes)


def scanned(x, w):
    """Ten steps, in each a product and a sum over devices."""

    def step(carry, _):
        return jax.lax.psum(jnp.tanh(carry @ w), "model"), ()

    return jax.lax.scan(step, x, None, length=10)[0]


def test_a_loop_counts_as_often_as_it_turns():
    program = compile_mapped(scanned, (P("data"), P()), P("data"), (64, 48), (48, 48))
    assert collectives(program, SIZES) == [Collective("all-reduce", 4 * 32 * 48, 10, 2, ("model",))]
    assert total(program, flops) == 10 * 2 * 32 * 48 * 48
    assert program.unknown_loops() == 0


LOOP = """
%more (at: (s32[], f32[4])) -> pred[] {
  %at = (s32[], f32[4]) parameter(0)
  %i = s32[] get-tuple-element(%at), index=0
  %limit = s32[] constant(7)
  ROOT %less = pred[] compare(%i, %limit), direction=LT
}

%turn (now: (s32[], f32[4])) -> (s32[], f32[4]) {
  %now = (s32[], f32[4]) parameter(0)
  %j = s32[] get-tuple-element(%now), index=0
  %x = f32[4] get-tuple-element(%now), index=1
  %step = s32[] constant(STEP)
  %next = s32[] OPCODE(%j, %step)
  ROOT %both = (s32[], f32[4]) tuple(%next, %x)
}

ENTRY %main (start: (s32[], f32[4])) -> (s32[], f32[4]) {
  %start = (s32[], f32[4]) parameter(0)
  ROOT %loop = (s32[], f32[4]) while(%start), condition=%more, body=%turn
}
"""


@pytest.mark.parametrize(
    ("opcode", "step", "turns"),
    [("add", 1, 7), ("add", 2, 4), ("add", 3, 3), ("multiply", 2, None)],
)
def test_a_loop_need_not_count_by_ones(opcode, step, turns):
    """That over parts of a product that is sent round takes two at each turn, on a TPU."""
    program = hlo.parse(LOOP.replace("OPCODE", opcode).replace("STEP", str(step)))
    assert program.turns(program.computations["main"].ops["loop"]) == turns
    assert program.unknown_loops() == (turns is None)


def test_xla_counts_a_loop_once():
    # If this fails, XLA has learnt to count, and research.distributed.work may lean on it.
    def steps(length):
        def run(x, w):
            return jax.lax.scan(lambda c, _: (jnp.tanh(c @ w), ()), x, None, length=length)[0]

        shapes = (jax.ShapeDtypeStruct(s, jnp.float32) for s in ((64, 64), (64, 64)))
        return jax.jit(run).lower(*shapes).compile()

    long, short = steps(50), steps(25)
    assert long.cost_analysis()["flops"] < 1.1 * short.cost_analysis()["flops"]
    counts = [total(hlo.parse(each.as_text()), flops) for each in (long, short)]
    assert counts == [50 * 2 * 64**3, 25 * 2 * 64**3]


def test_sharded_parameters_are_gathered():
    sizes = {"data": 1, "fsdp": 4, "model": 1}
    mesh = mesh_of(jax.devices(), sizes)
    whole = NamedSharding(mesh, P())
    gather = jax.jit(
        lambda w: w * 2,
        in_shardings=NamedSharding(mesh, P("fsdp")),
        out_shardings=whole,
    )
    compiled = gather.lower(jax.ShapeDtypeStruct((64, 32), jnp.float32)).compile()
    found = collectives(hlo.parse(compiled.as_text()), sizes)
    assert found == [Collective("all-gather", 4 * 64 * 32, 1, 4, ("fsdp",))]


CONVOLUTIONS = {
    "valid": {"window_strides": (1, 1), "padding": "VALID"},
    "padded": {"window_strides": (1, 1), "padding": "SAME"},
    "strided": {"window_strides": (2, 2), "padding": "SAME"},
    "dilated": {"window_strides": (1, 1), "padding": "VALID", "rhs_dilation": (2, 2)},
    "transposed": {"window_strides": (1, 1), "padding": ((1, 2), (1, 2)), "lhs_dilation": (2, 2)},
    "depthwise": {"window_strides": (1, 1), "padding": "SAME", "feature_group_count": 8},
}


@pytest.mark.parametrize("options", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
@pytest.mark.parametrize("gradient", [False, True])
def test_convolutions_count_as_xla_counts_them(options, gradient):
    channels = 8 // options.get("feature_group_count", 1)

    def run(x, k):
        return jax.lax.conv_general_dilated(
            x, k, dimension_numbers=("NHWC", "HWIO", "NHWC"), **options
        )

    function = jax.grad(lambda x, k: run(x, k).sum(), 1) if gradient else run
    shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((2, 12, 12, 8), (3, 3, channels, 8))]
    compiled = jax.jit(function).lower(*shapes).compile()
    counted, known = total(hlo.parse(compiled.as_text()), flops), compiled.cost_analysis()["flops"]
    assert counted == pytest.approx(known, rel=0.02)  # which counts additions of indices, too


def test_a_valid_convolution_in_closed_form():
    run = partial(
        jax.lax.conv_general_dilated,
        window_strides=(1, 1),
        padding="VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((4, 10, 10, 3), (3, 3, 3, 16))]
    program = hlo.parse(jax.jit(run).lower(*shapes).compile().as_text())
    assert total(program, flops) == 2 * 4 * 8 * 8 * 3 * 3 * 3 * 16


def test_traffic_without_loops_is_xlas():
    def layer(x, w):
        return jnp.tanh(x @ w).sum(0)

    shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((64, 128), (128, 96))]
    compiled = jax.jit(layer).lower(*shapes).compile()
    program = hlo.parse(compiled.as_text())
    assert total(program, traffic) == pytest.approx(
        compiled.cost_analysis()["bytes accessed"], rel=0.02
    )


def test_a_slice_of_a_stack_is_read_alone():
    def run(x):
        return jax.lax.scan(lambda c, row: (c + row, c * row), jnp.zeros(256), x)

    compiled = jax.jit(run).lower(jax.ShapeDtypeStruct((100, 256), jnp.float32)).compile()
    moved = total(hlo.parse(compiled.as_text()), traffic)
    row = 4 * 256
    assert 100 * 4 * row < moved < 100 * 16 * row  # and not 100 · 100 rows


def line(attributes):
    return hlo.Op("x", "all-reduce", (), (), f", replica_groups={attributes}, channel_id=1", "")


GROUPS = {
    "{{0,1},{2,3}}": [[0, 1], [2, 3]],
    "{}": [[0, 1, 2, 3, 4, 5, 6, 7]],
    "[2,4]<=[8]": [[0, 1, 2, 3], [4, 5, 6, 7]],
    "[2,4]<=[4,2]T(1,0)": [[0, 2, 4, 6], [1, 3, 5, 7]],
    "[4,2]<=[2,2,2]T(1,0,2)": [[0, 1], [4, 5], [2, 3], [6, 7]],
    "mesh['a'=2,'b'=4] {'b'}": [[0, 1, 2, 3], [4, 5, 6, 7]],
    "mesh['a'=2,'b'=4] {'a'}": [[0, 4], [1, 5], [2, 6], [3, 7]],
    "mesh['a'=2,'b'=4] {'a','b'}": [[0, 1, 2, 3, 4, 5, 6, 7]],
    "mesh['a'=8] {'a':(1)2}": [[0, 4], [1, 5], [2, 6], [3, 7]],
    "mesh['a'=8] {'a':(4)2}": [[0, 1], [2, 3], [4, 5], [6, 7]],
    "mesh['a'=8] {'a':(2)2}": [[0, 2], [1, 3], [4, 6], [5, 7]],
}


@pytest.mark.parametrize("form", GROUPS)
def test_groups_are_read_in_every_form(form):
    found = groups(line(form), 8)
    assert sorted(map(tuple, found.tolist())) == sorted(map(tuple, GROUPS[form]))


def test_a_form_that_is_not_known_is_said():
    with pytest.raises(ValueError, match="replica_groups: found 'weird"):
        groups(line("weird"), 8)


def test_axes_of_pairs():
    assert axes_of(np.array([[0, 1], [2, 3]]), {"data": 2, "model": 2}) == ("model",)
    assert axes_of(np.array([[0, 3]]), {"data": 2, "model": 2}) == ("data", "model")


ASYNCHRONOUS = """HloModule m

%inner (p: f32[8]) -> (f32[8], f32[16]) {
  %p = f32[8]{0} parameter(0)
  %g = f32[16]{0:S(1)} all-gather(%p), channel_id=7, replica_groups={{0,1}}, dimensions={0}
  ROOT %s = (f32[8]{0}, f32[16]{0}) custom-call(%g), custom_call_target="AsyncCollectiveStart"
}

%end (p.1: f32[8]) -> f32[16] {
  %p.1 = f32[8]{0} parameter(0)
  ROOT %g.1 = f32[16]{0} all-gather(%p.1), channel_id=7, replica_groups={{0,1}}, dimensions={0}
}

%all-reduce-scatter (p.2: f32[16]) -> f32[8] {
  %p.2 = f32[16]{0} parameter(0)
  %r = f32[16]{0} all-reduce(%p.2), channel_id=9, replica_groups=[1,2]<=[2], to_apply=%add
  %c = u32[] constant(0)
  ROOT %d = f32[8]{0} dynamic-slice(%r, %c), dynamic_slice_sizes={8}
}

ENTRY %main (a: f32[8], b: bf16[4,4]) -> f32[8] {
  %a = f32[8]{0} parameter(0)
  %b = bf16[4,4]{1,0} parameter(1)
  %start = (f32[8]{0}, /*index=1*/f32[16]{0}) fusion(%a), kind=kCustom, calls=%inner
  %done = f32[16]{0} fusion(%a), kind=kCustom, calls=%end
  %scattered = f32[8]{0} fusion(%done), kind=kCustom, calls=%all-reduce-scatter
  %both = (f32[8]{0}, bf16[4,4]{1,0}) all-reduce-start(%a, %b), channel_id=3, replica_groups={{0,1}}, to_apply=%add
  ROOT %end.1 = (f32[8]{0}, bf16[4,4]{1,0}) all-reduce-done(%both)
}
"""  # noqa: E501


def test_what_begins_and_ends_counts_once():
    found = collectives(hlo.parse(ASYNCHRONOUS), {"data": 2})
    assert found == [
        Collective("all-gather", 64, 1, 2, ("data",), background=True),
        Collective("reduce-scatter", 64, 1, 2, ("data",)),
        Collective("all-reduce", 32 + 32, 1, 2, ("data",), background=True),
    ]


def test_a_tpus_compiler_says_the_same(tpus):
    sizes = {"data": 2, "model": 2}
    mesh = mesh_of(tpus, sizes)
    mapped = jax.shard_map(
        scanned, mesh=mesh, in_specs=(P("data"), P()), out_specs=P("data"), check_vma=False
    )
    shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((256, 128), (128, 128))]
    places = [NamedSharding(mesh, P("data")), NamedSharding(mesh, P())]
    compiled = jax.jit(mapped, in_shardings=places).lower(*shapes).compile()
    program = hlo.parse(compiled.as_text())
    found = [each for each in collectives(program, sizes) if each.kind == "all-reduce"]
    assert [(each.times, each.axes) for each in found] == [(10, ("model",))]
    assert total(program, flops) == 10 * 2 * 128 * 128 * 128
    assert program.unknown_loops() == 0
