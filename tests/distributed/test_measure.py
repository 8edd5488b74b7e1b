"""The chip that is here, measured."""

import jax

from research.distributed.measure import measured, step_seconds


def test_what_is_measured_can_be(monkeypatch):
    monkeypatch.setattr("research.distributed.measure.SIZES", {"cpu": (256, 2**22)})
    chip = measured(jax.devices()[:2], ["float32", "float64"])
    # From a core that does one product in ten cycles to a hundred cores that do 64 in each.
    assert all(1e8 < flops < 2e13 for flops in chip.flops.values())
    assert chip.flops.keys() == {"float32", "float64"}
    assert 1e7 < chip.bandwidth < 1e13
    assert chip.network.node == 2 and 0 < chip.network.start < 1
    assert chip.memory > 2**28


def test_a_step_goes_on_from_where_it_ended():
    seen = []

    def step(state, batch):
        seen.append(state)
        return state + batch, {}

    assert step_seconds(step, 0, 1, times=3) >= 0
    assert seen == [0, 1, 2, 3]
