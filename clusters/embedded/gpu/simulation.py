"""The simulated GPUs of a node over time: from who holds which device and what they have used to readings.

Place: `runtime/gpus.py` calls `Simulation.step` each second. Limits: the models of telemetry.py.
"""

from collections import Counter
from collections.abc import Mapping

from clusters.embedded.gpu import telemetry
from clusters.embedded.gpu.attribution import Holder
from clusters.embedded.gpu.devices import Device, Offer
from clusters.embedded.gpu.models import MODELS
from clusters.embedded.gpu.telemetry import Reading, Usage, Work


class Simulation:
    """The simulated devices that a node offers, at rest when they begin."""

    def __init__(self, offer: Offer) -> None:
        self._offer = offer
        self._model = MODELS[offer.devices[0].product]
        self._states = {device.index: telemetry.at_rest(self._model) for device in offer.devices}
        self._used: Mapping[Holder, Usage] = {}

    def step(
        self, holders: Mapping[str, Holder], usages: Mapping[Holder, Usage], seconds: float, inlet: float
    ) -> dict[str, Reading]:
        """The readings, by device, after `seconds`.

        Args:
            holders: the container that holds each unit.
            usages: what each of those that run has used by now.
            seconds: since the last step.
            inlet: °C of the node's air.
        """
        works = self._works(holders, usages, seconds)
        self._used = usages
        for index, state in self._states.items():
            devices = [device for device in self._offer.devices if device.index == index]
            asked = telemetry.whole((_share(device), works[device.id]) for device in devices)
            self._states[index] = telemetry.step(self._model, state, asked, seconds, inlet)
        return {
            device.id: telemetry.reading(
                self._model,
                self._states[device.index],
                works[device.id],
                device.memory_mib,
                partition=device.partition is not None,
            )
            for device in self._offer.devices
        }

    def _works(self, holders: Mapping[str, Holder], usages: Mapping[Holder, Usage], seconds: float) -> dict[str, Work]:
        units = self._offer.units
        held = {(holder, units[unit].id) for unit, holder in holders.items() if unit in units}
        devices = Counter(holder for holder, _ in held)
        asked = {
            holder: telemetry.work(self._used.get(holder), usages[holder], seconds, count)
            for holder, count in devices.items()
            if holder in usages
        }
        return {
            device.id: telemetry.together(asked[holder] for holder, id_ in held if id_ == device.id and holder in asked)
            for device in self._offer.devices
        }


def _share(device: Device) -> float:
    return device.partition.share if device.partition else 1.0
