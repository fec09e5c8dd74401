"""What the runtime tells of its pods and containers, as messages of the Container Runtime Interface.

Place: `services.py` answers with them, `events.py` sends them. Limits: none of it is kept; it is made when asked for.
"""

from typing import Any

from clusters.embedded import protos
from clusters.embedded.protos import Message
from clusters.embedded.runtime.container import Container
from clusters.embedded.runtime.sandbox import Sandbox

_SIGTERM = 23  # the CRI's Signal


class Statuses:
    """Messages about pods and containers."""

    _api: protos.Api

    def _state(self, pod: Sandbox) -> int:
        return int(self._api.SANDBOX_READY if pod.ready else self._api.SANDBOX_NOTREADY)

    def _sandbox_status(self, pod: Sandbox) -> Message:
        options = pod.config.linux.security_context.namespace_options
        network = {"ip": pod.address} if pod.address and pod.ready else {}
        return self._api.PodSandboxStatus(**self._pod(pod), network=network, linux={"namespaces": {"options": options}})

    def _container_status(self, container: Container) -> Message:
        config, rights = container.config, container.plan.box.rights
        return self._api.ContainerStatus(
            **self._container(container),
            started_at=container.started or 0,
            finished_at=container.finished or 0,
            exit_code=container.exit_code or 0,
            reason=container.reason,
            message=container.message,
            mounts=config.mounts,
            log_path=str(container.log_path or ""),
            user={"linux": {"uid": rights.uid, "gid": rights.gid, "supplemental_groups": rights.groups or ()}},
            stop_signal=config.stop_signal or _SIGTERM,
            resources={"linux": config.linux.resources},
        )

    def _pod(self, pod: Sandbox) -> dict[str, Any]:
        return {
            "id": pod.id,
            "metadata": pod.config.metadata,
            "state": self._state(pod),
            "created_at": pod.created,
            "labels": pod.config.labels,
            "annotations": pod.config.annotations,
        }

    def _container(self, container: Container) -> dict[str, Any]:
        config, image = container.config, container.image
        return {
            "id": container.id,
            "metadata": config.metadata,
            "image": config.image,
            "image_ref": image.digest,
            "image_id": image.digest,
            "state": int(container.state),
            "created_at": container.created,
            "labels": config.labels,
            "annotations": config.annotations,
        }
