"""The model of a simulated GPU: work in, readings out."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusters.api import Gpus, Mig, NodeSpec
from clusters.embedded.gpu import telemetry
from clusters.embedded.gpu.attribution import Holder
from clusters.embedded.gpu.devices import Offer, assign
from clusters.embedded.gpu.models import MODELS, Model
from clusters.embedded.gpu.simulation import Simulation
from clusters.embedded.gpu.telemetry import INLET, LIMIT, RISE, State, Usage, Work, step, work

L4 = MODELS["NVIDIA-L4"]
A, B = Holder("default", "a", "main"), Holder("default", "b", "main")
shares = st.floats(0, 1)
works = st.builds(Work, shares, shares, st.floats(0, 1e12))


def offer(**gpus: object) -> Offer:
    wanted = {"model": "NVIDIA-L4", "count": 1, "source": "simulated", **gpus}
    return assign([NodeSpec("n", gpus=Gpus(**wanted))], ())[0]  # type: ignore[arg-type]  # fields by name


def after(model: Model, asked: Work, seconds: int, inlet: float = INLET) -> State:
    state = telemetry.at_rest(model, inlet)
    for _ in range(seconds):
        state = step(model, state, asked, 1.0, inlet)
    return state


def test_one_busy_thread_keeps_a_gpu_busy_without_filling_it() -> None:
    before, now = Usage("c", 10.0, 0, 8.0), Usage("c", 12.0, 1 << 30, 8.0)
    assert work(before, now, 2.0, 1) == Work(1.0, 0.125, 1 << 30)


def test_a_container_may_not_use_more_than_its_limit() -> None:
    assert work(Usage("c", 0.0, 0, 0.5), Usage("c", 1.0, 0, 0.5), 2.0, 1) == Work(1.0, 1.0, 0)
    assert work(Usage("c", 0.0, 0, 0.5), Usage("c", 0.5, 0, 0.5), 2.0, 1) == Work(0.5, 0.5, 0)


def test_the_work_of_a_container_is_spread_over_its_gpus() -> None:
    assert work(Usage("c", 0.0, 0, 4.0), Usage("c", 2.0, 800, 4.0), 1.0, 2) == Work(1.0, 0.5, 400)


@pytest.mark.parametrize("before", [None, Usage("other", 0.0, 0, 1.0), Usage("c", 9.0, 0, 1.0)])
def test_a_new_or_restarted_container_has_done_nothing_yet(before: Usage | None) -> None:
    assert work(before, Usage("c", 5.0, 7, 1.0), 1.0, 1) == Work(0.0, 0.0, 7)


def test_at_rest_nothing_changes() -> None:
    for model in MODELS.values():
        rest = telemetry.at_rest(model)
        later = step(model, rest, Work(), 100.0)
        assert later.celsius == pytest.approx(rest.celsius)
        assert (later.watts, later.sm_mhz) == (model.idle_watts, model.sm_mhz[0])


def test_full_work_draws_the_power_limit_and_settles_at_its_temperature() -> None:
    for model in MODELS.values():
        state = after(model, Work(1.0, 1.0), 300)
        assert state.watts == model.power_watts
        assert state.celsius == pytest.approx(INLET + RISE, abs=0.1)
        assert (state.sm_mhz, state.throttled) == (model.sm_mhz[1], 0.0)
        assert state.joules == pytest.approx(300 * model.power_watts)


def test_the_temperature_follows_with_its_time_constant() -> None:
    start = telemetry.at_rest(L4)
    goal = INLET + RISE
    state = step(L4, start, Work(1.0, 1.0), telemetry.SECONDS)
    assert (state.celsius - goal) / (start.celsius - goal) == pytest.approx(math.exp(-1))


def test_in_hot_air_clocks_and_power_fall_until_the_heat_is_gone() -> None:
    state = after(L4, Work(1.0, 1.0), 600, inlet=60.0)
    assert LIMIT < state.celsius < 60.0 + RISE
    assert state.sm_mhz < L4.sm_mhz[1]
    assert L4.idle_watts < state.watts < L4.power_watts
    assert state.throttled > 500
    settled = step(L4, state, Work(1.0, 1.0), 1.0, 60.0)
    assert settled.celsius == pytest.approx(state.celsius, abs=0.5)


@given(st.sampled_from(sorted(MODELS)), st.lists(st.tuples(works, st.floats(0.01, 60)), max_size=20), st.floats(0, 80))
def test_every_state_is_possible(name: str, steps: list[tuple[Work, float]], inlet: float) -> None:
    model = MODELS[name]
    state = telemetry.at_rest(model, inlet)
    for asked, seconds in steps:
        later = step(model, state, asked, seconds, inlet)
        assert model.idle_watts <= later.watts <= model.power_watts
        assert model.sm_mhz[0] <= later.sm_mhz <= model.sm_mhz[1]
        assert inlet <= later.celsius <= inlet + RISE + 1e-9
        assert later.joules >= state.joules
        assert later.throttled >= state.throttled
        state = later


@given(works, works, st.sampled_from(sorted(MODELS)))
def test_more_work_takes_more_power(one: Work, other: Work, name: str) -> None:
    less, more = sorted((one, other), key=lambda each: each.sm_active)
    model = MODELS[name]
    if less.utilisation > 0 and more.utilisation > 0:
        rest = telemetry.at_rest(model)
        assert step(model, rest, less, 1.0).watts <= step(model, rest, more, 1.0).watts


def test_a_simulation_shows_the_work_of_the_holder_on_its_device_only() -> None:
    node = offer(count=2)
    first, second = node.devices
    simulation = Simulation(node)
    simulation.step({first.id: A}, {A: Usage("c", 0.0, 0, 2.0)}, 1.0, INLET)
    found = simulation.step({first.id: A}, {A: Usage("c", 2.0, 100 << 20, 2.0)}, 1.0, INLET)
    busy, idle = found[first.id], found[second.id]
    assert (busy.utilisation, busy.sm_active, busy.memory_used_mib, busy.watts) == (1.0, 1.0, 100.0, L4.power_watts)
    assert busy.memory_free_mib == L4.memory_mib - 100
    assert (idle.utilisation, idle.sm_active, idle.memory_used_mib, idle.watts) == (0.0, 0.0, 0.0, L4.idle_watts)


def test_memory_is_at_most_the_devices() -> None:
    node = offer()
    (device,) = node.devices
    found = Simulation(node).step({device.id: A}, {A: Usage("c", 0.0, 1 << 50, 1.0)}, 1.0, INLET)
    assert (found[device.id].memory_used_mib, found[device.id].memory_free_mib) == (L4.memory_mib, 0.0)


def test_containers_that_share_a_gpu_add_up() -> None:
    node = offer(replicas=4)
    (device,) = node.devices
    held = {f"{device.id}::0": A, f"{device.id}::1": A, f"{device.id}::3": B}
    simulation = Simulation(node)
    simulation.step(held, {A: Usage("a", 0.0, 0, 4.0), B: Usage("b", 0.0, 0, 4.0)}, 1.0, INLET)
    used = {A: Usage("a", 1.0, 10 << 20, 4.0), B: Usage("b", 0.5, 20 << 20, 4.0)}
    reading = simulation.step(held, used, 1.0, INLET)[device.id]
    assert (reading.utilisation, reading.sm_active, reading.memory_used_mib) == (1.0, 0.375, 30.0)


def test_partitions_work_apart_and_heat_one_gpu() -> None:
    node = offer(model="NVIDIA-H100-80GB-HBM3", mig=Mig("1g.10gb", 2))
    one, other = node.devices
    simulation = Simulation(node)
    simulation.step({one.id: A}, {A: Usage("c", 0.0, 0, 1.0)}, 1.0, INLET)
    found = simulation.step({one.id: A}, {A: Usage("c", 1.0, 1 << 20, 1.0)}, 1.0, INLET)
    assert (found[one.id].utilisation, found[one.id].engine_active, found[one.id].sm_active) == (None, 1.0, 1.0)
    assert (found[other.id].engine_active, found[other.id].memory_used_mib) == (0.0, 0.0)
    assert found[one.id].watts == found[other.id].watts == pytest.approx(70 + 630 / 7)
    assert found[other.id].sm_mhz == 1980
    assert found[other.id].memory_free_mib == one.memory_mib


def test_a_container_that_has_ended_works_no_more() -> None:
    node = offer()
    (device,) = node.devices
    simulation = Simulation(node)
    simulation.step({device.id: A}, {A: Usage("c", 0.0, 0, 1.0)}, 1.0, INLET)
    simulation.step({device.id: A}, {A: Usage("c", 1.0, 0, 1.0)}, 1.0, INLET)
    assert simulation.step({device.id: A}, {}, 1.0, INLET)[device.id].utilisation == 0.0
