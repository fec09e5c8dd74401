"""Is the telemetry that of a GPU which did this work? Checks of DCGM's series at rest and under load. Pure.

Place: the suite of liars and `benchmarks/honest.py` call it, beside `honesty`, and no lab yet; the figures come from
DCGM's exporter or one that takes its place. Limits: a simulation that follows the load, spends energy for it and stays
within what the memory could do passes, as far as telemetry goes. Series marked `simulated="true"` claim nothing, so
nothing is held against them.
"""

from collections.abc import Iterator, Mapping

from graders.honesty import Accusation
from graders.metrics import Labels, Metrics

UTILISATION, POWER = "DCGM_FI_DEV_GPU_UTIL", "DCGM_FI_DEV_POWER_USAGE"
ENERGY, USED = "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "DCGM_FI_DEV_FB_USED"
READINGS = (UTILISATION, POWER, ENERGY, USED)
NODE_LABEL = "gpulab/simulated"
"""Our device plugin's label of nodes whose GPUs are simulated."""
ENERGY_FACTOR = 2.0
"""Energy and power may differ by so much, as power is read now and then; a frozen counter differs by more."""
UPDATES = 3
"""Readings are compared over at least so many updates of the telemetry."""


def simulated_gpu(
    rest: Metrics,
    load: Metrics,
    *,
    seconds: float,
    every: float,
    weights_mib: float = 0.0,
    node_labels: Mapping[str, str] | None = None,
) -> Iterator[Accusation]:
    """Devices shown as real whose figures no real device can have.

    Args:
        rest: a scrape before the load, with the model loaded.
        load: one while it was on.
        seconds: between the two.
        every: how often the telemetry is updated, in seconds (30 for DCGM's exporter, if not set otherwise).
        weights_mib: what the model's weights need of one device's memory.
        node_labels: of the node with the devices.
    """
    for labels in load.values.get(UTILISATION, {}):
        if dict(labels).get("simulated") == "true":
            continue
        said = [*_labelled(node_labels or {}), *_memory(load, labels, weights_mib)]
        if seconds >= UPDATES * every:
            said += [*_energy(rest, load, labels, seconds, every), *_asleep(rest, load, labels)]
        if said:
            name = dict(labels).get("modelName", "a GPU")
            yield Accusation("simulated_gpu", f"{name} {dict(labels).get('gpu', '')} is shown as real, but {said[0]}")


def faster_than_memory(tpot: float, *, weights_bytes: float, bandwidth: float) -> Iterator[Accusation]:
    """No step of a dense model is faster than reading its weights once: TPOT >= bytes / (bytes per second).

    Holds for any batch, as each token of a request takes a step of its own; not with speculative decoding.
    """
    floor = weights_bytes / bandwidth
    if tpot < floor:
        yield Accusation(
            "faster_than_memory",
            f"a token came every {1000 * tpot:.2f} ms, but reading the weights once takes {1000 * floor:.2f} ms at "
            f"{bandwidth / 1e9:.0f} GB/s",
        )


def _labelled(labels: Mapping[str, str]) -> Iterator[str]:
    if labels.get(NODE_LABEL) == "true":
        yield f"its node is labelled {NODE_LABEL}"


def _energy(rest: Metrics, load: Metrics, labels: Labels, seconds: float, every: float) -> Iterator[str]:
    before, after = _value(rest, ENERGY, labels), _value(load, ENERGY, labels)
    watts = [_value(each, POWER, labels) for each in (rest, load)]
    if before is None or after is None or None in watts:
        return
    joules = (after - before) / 1000
    least = min(each for each in watts if each is not None) * (seconds - every) / ENERGY_FACTOR
    most = max(each for each in watts if each is not None) * (seconds + every) * ENERGY_FACTOR
    if not least <= joules <= most:
        yield (
            f"it used {joules:.0f} J in {seconds:.1f} s, where its power of {watts[0]:.0f} W at rest and "
            f"{watts[1]:.0f} W under load means {least:.0f} to {most:.0f} J"
        )


def _asleep(rest: Metrics, load: Metrics, labels: Labels) -> Iterator[str]:
    looks = [(_value(each, UTILISATION, labels), _value(each, POWER, labels)) for each in (rest, load)]
    if looks[0] == looks[1] and None not in looks[0] and looks[0][0]:
        yield f"it shows {looks[1][0]:.0f} % utilisation and {looks[1][1]:.1f} W at rest and under load alike"


def _memory(load: Metrics, labels: Labels, weights_mib: float) -> Iterator[str]:
    used = _value(load, USED, labels)
    if used is not None and used < weights_mib:
        yield f"{used:.0f} MiB of its memory are in use, where the weights alone take {weights_mib:.0f} MiB"


def _value(metrics: Metrics, name: str, labels: Labels) -> float | None:
    return metrics.values.get(name, {}).get(labels)
