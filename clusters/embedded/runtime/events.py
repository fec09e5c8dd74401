# ruff: noqa: D102, N802 - the methods have the names of the API, and are described there
"""Container events: the kubelet learns of a container's end at once instead of at its next look, once a second.

Place: `services.py` inherits `Events` and tells it what happens. Limits: who reads too slowly misses events, as the CRI
allows; the kubelet looks at everything each second anyway.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from grpc.aio import ServicerContext

from clusters.embedded.protos import Message
from clusters.embedded.runtime.container import Container
from clusters.embedded.runtime.sandbox import Sandboxes
from clusters.embedded.runtime.statuses import Statuses

_MOST = 1000  # events that wait for one reader


class Events(Statuses):
    """The call of the CRI that streams events."""

    _pods: Sandboxes
    _now: Callable[[], int]
    _readers: set[asyncio.Queue[Message]]

    async def GetContainerEvents(self, _request: Message, context: ServicerContext) -> AsyncIterator[Message]:
        reader: asyncio.Queue[Message] = asyncio.Queue(_MOST)
        self._readers.add(reader)
        try:
            await context.send_initial_metadata(())  # from here on nothing is missed
            while True:
                yield await reader.get()
        finally:
            self._readers.discard(reader)

    def _tell(self, container: Container, kind: int) -> None:
        """Tells every reader of an event, whose `kind` is one of the CRI's ContainerEventType."""
        if not self._readers:
            return
        pod = self._pods.find(container.pod)
        event = self._api.ContainerEventResponse(
            container_id=container.id,
            container_event_type=kind,
            created_at=self._now(),
            pod_sandbox_status=self._sandbox_status(pod),
            containers_statuses=[self._container_status(each) for each in pod.containers.values()],
        )
        for reader in self._readers:
            with contextlib.suppress(asyncio.QueueFull):
                reader.put_nowait(event)
