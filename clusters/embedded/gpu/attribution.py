"""Who holds which device: the kubelet's pod-resources API.

Place: `runtime/gpus.py` asks it each second, as dcgm-exporter does. Limits: devices of device plugins, no DRA.
"""

from pathlib import Path

import msgspec

from clusters.embedded import protos

SOCKET = Path("pod-resources/kubelet.sock")
"""Below the kubelet's folder."""


class Holder(msgspec.Struct, frozen=True):
    """A container of a pod."""

    namespace: str
    pod: str
    container: str


async def holders(api: protos.Api, socket: Path, resource: str) -> dict[str, Holder]:
    """The container that holds each unit of a resource, by the unit's id; free units are not in it.

    Raises:
        grpc.aio.AioRpcError: the kubelet does not answer.
    """
    async with protos.channel(socket) as channel:
        stub = api.stub("PodResourcesLister", channel)
        answer = await stub.List(api.ListPodResourcesRequest(), timeout=5)
    return {
        unit: Holder(pod.namespace, pod.name, container.name)
        for pod in answer.pod_resources
        for container in pod.containers
        for devices in container.devices
        if devices.resource_name == resource
        for unit in devices.device_ids
    }
