"""The GPUs of a running node: offered to its kubelet, watched for faults.

Place: a task of the node's runtime process, when the node has devices. Limits: faults of simulated GPUs are looked for
five times a second.
"""

import asyncio
import contextlib
from pathlib import Path

from clusters.embedded import protos
from clusters.embedded.gpu import faults
from clusters.embedded.runtime.config import NodeConfig
from clusters.embedded.runtime.device_plugin import DevicePlugin

_LOOK = 0.2  # seconds


async def serve(config: NodeConfig) -> None:
    """Offers the node's devices until cancelled; at once done when it has none."""
    if not config.gpus.devices:
        return
    api = protos.load(Path(config.descriptors) / "deviceplugin.binpb")
    plugin = DevicePlugin(api, config.gpus, Path(config.kubelet) / "device-plugins")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(plugin.run())
        tasks.create_task(_watch_faults(config, plugin))


async def _watch_faults(config: NodeConfig, plugin: DevicePlugin) -> None:
    seen = -1
    while True:
        size = 0
        with contextlib.suppress(FileNotFoundError):
            size = Path(config.faults).stat().st_size
        if size != seen:
            seen, events = size, faults.read(Path(config.faults))
            plugin.tell(gpu for gpu in range(config.gpus.gpus) if not faults.health(events, gpu).healthy)
        await asyncio.sleep(_LOOK)
