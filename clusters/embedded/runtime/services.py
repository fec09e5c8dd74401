# ruff: noqa: D102, N802 - the methods have the names of the API, and are described there
"""The Container Runtime Interface: the kubelet's calls become calls to sandboxes and containers, and back.

Place: `server.py` serves the two services. Limits: there are no checkpoints, which answer UNIMPLEMENTED.
"""

import asyncio
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import msgspec

from clusters.embedded import protos
from clusters.embedded.protos import Message
from clusters.embedded.runtime import execute
from clusters.embedded.runtime.bubblewrap import Mount
from clusters.embedded.runtime.cgroups import Group, joining
from clusters.embedded.runtime.config import NodeConfig
from clusters.embedded.runtime.container import Container
from clusters.embedded.runtime.errors import NotFound, Refused
from clusters.embedded.runtime.events import Events
from clusters.embedded.runtime.images import Image, Images
from clusters.embedded.runtime.launch import Launcher
from clusters.embedded.runtime.plan import Surroundings, plan
from clusters.embedded.runtime.sandbox import Sandbox, Sandboxes, shares_processes
from clusters.embedded.runtime.stage import Stage
from clusters.embedded.runtime.stats import Rate, Statistics
from clusters.embedded.runtime.streaming import Helper, Streaming

NAME, VERSION = "gpulab", "0.1.0"
_STARTS = 2
"""Containers of a node that start at a time. A start is a row of mounts, which the kernel makes one at a time on the
whole machine: hundreds that wait for each other take longer than one after the other."""


class RuntimeService(Events, Streaming, Statistics):
    """Pod sandboxes and containers; a method is documented in the CRI's api.proto."""

    def __init__(
        self,
        api: protos.Api,
        config: NodeConfig,
        images: Images,
        pods: Sandboxes,
        *,
        base: Callable[[], Path],
        stage: Stage,
        users: Literal["real", "mapped"],
        launcher: Launcher,
        programs: dict[str, str],
        helper: Helper,
        new_id: Callable[[], str],
        now: Callable[[], int],
    ) -> None:
        """`base`, `stage`, `programs` and `now` as in Container, `users` as in plan.Surroundings."""
        self._users, self._launcher = users, launcher
        self._api, self._config, self._images, self._pods = api, config, images, pods
        self._base, self._stage, self._programs = base, stage, programs
        self._starting = asyncio.Semaphore(_STARTS)
        self._rate = Rate()
        self._no_cgroups = () if Path("/sys/fs/cgroup").is_dir() else None
        self._helper, self._new_id, self._now = helper, new_id, now
        self._readers = set()

    async def Version(self, _request: Message, _context: object) -> Message:
        return self._api.VersionResponse(
            version="0.1.0", runtime_name=NAME, runtime_version=VERSION, runtime_api_version="v1"
        )

    async def Status(self, request: Message, _context: object) -> Message:
        conditions = [{"type": kind, "status": True} for kind in ("RuntimeReady", "NetworkReady")]
        info = {"config": msgspec.json.encode(self._config).decode()} if request.verbose else {}
        handler = {"name": "", "features": {"recursive_read_only_mounts": True}}
        return self._api.StatusResponse(
            status={"conditions": conditions},
            info=info,
            runtime_handlers=[handler],
            features={"supplemental_groups_policy": self._users == "real"},
        )

    async def RuntimeConfig(self, _request: Message, _context: object) -> Message:
        return self._api.RuntimeConfigResponse(linux={"cgroup_driver": self._api.CGROUPFS})

    async def UpdateRuntimeConfig(self, _request: Message, _context: object) -> Message:
        return self._api.UpdateRuntimeConfigResponse()

    async def RunPodSandbox(self, request: Message, _context: object) -> Message:
        if request.runtime_handler:
            raise Refused(
                f"the runtime class asks for the handler {request.runtime_handler!r}; this node has the default only"
            )
        pod = await self._pods.run(request.config)
        if shares_processes(request.config):
            try:
                await self._share_processes(pod)
            except BaseException:
                await self._pods.remove(pod.id)
                raise
        return self._api.RunPodSandboxResponse(pod_sandbox_id=pod.id)

    async def StopPodSandbox(self, request: Message, _context: object) -> Message:
        await self._pods.stop(request.pod_sandbox_id)
        return self._api.StopPodSandboxResponse()

    async def RemovePodSandbox(self, request: Message, _context: object) -> Message:
        await self._pods.remove(request.pod_sandbox_id)
        return self._api.RemovePodSandboxResponse()

    async def PodSandboxStatus(self, request: Message, _context: object) -> Message:
        pod = self._pods.find(request.pod_sandbox_id)
        info = {"netns": pod.namespaces.path("net") or ""} if request.verbose else {}
        return self._api.PodSandboxStatusResponse(status=self._sandbox_status(pod), info=info)

    async def ListPodSandbox(self, request: Message, _context: object) -> Message:
        found = [
            pod for pod in self._pods.all() if _matches(request.filter, pod.id, self._state(pod), pod.config.labels)
        ]
        return self._api.ListPodSandboxResponse(items=[self._pod(pod) for pod in found])

    async def CreateContainer(self, request: Message, _context: object) -> Message:
        pod, config = self._pods.find(request.pod_sandbox_id), request.config
        if not pod.ready:
            raise Refused(f"pod sandbox {pod.id!r} is stopped, so no container can be created in it")
        reference = config.image.user_specified_image or config.image.image
        image = self._images.find(reference) or self._images.find(config.image.image)
        if image is None:
            raise NotFound(self._images.missing(reference))
        container = self._make(pod, config, image, self._beside(pod, config))
        pod.containers[container.id] = container
        container.at_end.append(lambda: self._tell(container, self._api.CONTAINER_STOPPED_EVENT))
        self._tell(container, self._api.CONTAINER_CREATED_EVENT)
        return self._api.CreateContainerResponse(container_id=container.id)

    async def StartContainer(self, request: Message, _context: object) -> Message:
        container = self._pods.container(request.container_id)
        if not self._pods.find(container.pod).ready:
            raise Refused(f"pod sandbox {container.pod!r} is stopped, so no container can be started in it")
        async with self._starting:
            await container.start()
        self._tell(container, self._api.CONTAINER_STARTED_EVENT)
        return self._api.StartContainerResponse()

    async def StopContainer(self, request: Message, _context: object) -> Message:
        await self._pods.container(request.container_id).stop(request.timeout)
        return self._api.StopContainerResponse()

    async def RemoveContainer(self, request: Message, _context: object) -> Message:
        await self._pods.remove_container(request.container_id)
        return self._api.RemoveContainerResponse()

    async def ListContainers(self, request: Message, _context: object) -> Message:
        wanted = request.filter
        found = [
            container
            for pod in self._pods.all()
            if wanted.pod_sandbox_id in {"", pod.id}
            for container in pod.containers.values()
            if _matches(wanted, container.id, container.state, container.config.labels)
        ]
        rows = [self._api.Container(**self._container(each), pod_sandbox_id=each.pod) for each in found]
        return self._api.ListContainersResponse(containers=rows)

    async def ContainerStatus(self, request: Message, _context: object) -> Message:
        container = self._pods.container(request.container_id)
        info = {"pid": str(container.init or "")} if request.verbose else {}
        return self._api.ContainerStatusResponse(status=self._container_status(container), info=info)

    async def UpdateContainerResources(self, request: Message, _context: object) -> Message:
        container = self._pods.container(request.container_id)
        wanted = self._api.LinuxContainerResources()
        wanted.CopyFrom(container.config.linux.resources)
        wanted.MergeFrom(request.linux)  # what the kubelet does not name stays
        if container.group:
            container.group.limit(wanted)
        container.config.linux.resources.CopyFrom(wanted)
        return self._api.UpdateContainerResourcesResponse()

    async def ReopenContainerLog(self, request: Message, _context: object) -> Message:
        self._pods.container(request.container_id).reopen_log()
        return self._api.ReopenContainerLogResponse()

    async def ExecSync(self, request: Message, _context: object) -> Message:
        container, init = self._running(request.container_id, "no command can be run in it")
        argv = execute.entering(container.plan.box, init, request.cmd, self._programs["nsenter"], self._launcher)
        done = await execute.run(argv, request.timeout or None, " ".join(request.cmd))
        return self._api.ExecSyncResponse(stdout=done.stdout, stderr=done.stderr, exit_code=done.status)

    async def _share_processes(self, pod: Sandbox) -> None:
        """Starts the container whose PID namespace those of a pod share; its process 1 reaps what they leave."""
        security = {"capabilities": {"drop_capabilities": ["ALL"]}, "seccomp": {"profile_type": 0}}
        metadata, linux = {"name": "pause"}, {"security_context": security}
        config = self._api.ContainerConfig(metadata=metadata, command=["sleep", "infinity"], linux=linux)
        pod.pause = self._make(pod, config, Image("pause", ""), None)
        await pod.pause.start()

    def _make(self, pod: Sandbox, config: Message, image: Image, beside: int | None) -> Container:
        id_ = self._new_id()
        folder = Path(self._config.state) / "containers" / id_
        group = Group(self._config.limits, pod.config.metadata.uid, id_) if self._config.limits.folders else None
        try:
            if group:
                group.limit(config.linux.resources)
            around = self._around(pod, config, folder, group, shares_processes=beside is not None)
            planned = plan(config, image, around)
        except BaseException:
            if group:
                group.remove()
            raise
        return Container(
            id_,
            planned,
            config=config,
            image=image,
            pod=pod.id,
            namespaces=pod.namespaces,
            launcher=self._launcher,
            base=self._base,
            stage=self._stage,
            beside=beside,
            folder=folder,
            log=Path(pod.config.log_directory, config.log_path) if config.log_path else None,
            group=group,
            programs=self._programs,
            now=self._now,
        )

    def _beside(self, pod: Sandbox, config: Message) -> int | None:
        """The process whose PID namespace a container joins; None for one of its own."""
        options = config.linux.security_context.namespace_options
        if options.pid == self._api.TARGET:
            return self._running(options.target_id, "no container can join its processes")[1]
        return pod.first

    def _around(
        self, pod: Sandbox, config: Message, folder: Path, group: Group | None, *, shares_processes: bool
    ) -> Surroundings:
        kubelet = Path(self._config.kubelet) / "pods" / pod.config.metadata.uid
        logs = [Path(pod.config.log_directory)] if pod.config.log_directory else []
        named = [mount.image.image for mount in config.mounts if mount.image.image]
        return Surroundings(
            hostname=pod.hostname,
            folder=folder,
            files=pod.files,
            shm=pod.shm,
            roots=(kubelet, *logs),
            host_paths=tuple(map(Path, self._config.host_paths)),
            image_volumes={name: found for name in named if (found := self._images.find(name))},
            users=self._users,
            shares_processes=shares_processes,
            joining=joining(group.entrances if group else (), config.linux.resources.oom_score_adj),
            cgroups=tuple(Mount(*place, read_only=True) for place in group.places) if group else self._no_cgroups,
            sys=self._config.sys,
        )


class ImageService:
    """Images, which are local environments made before the cluster starts; none is ever downloaded."""

    def __init__(self, api: protos.Api, images: Images, file: Path, now: Callable[[], int]) -> None:
        """`file` lies on the file system whose figures ImageFsInfo tells."""
        self._api, self._images, self._file, self._now = api, images, file, now

    async def ListImages(self, request: Message, _context: object) -> Message:
        wanted = request.filter.image.image
        found = [image for image in self._images.all() if wanted in {"", image.reference, image.digest}]
        return self._api.ListImagesResponse(images=[self._image(image) for image in found])

    async def ImageStatus(self, request: Message, _context: object) -> Message:
        image = self._images.find(request.image.image)
        return self._api.ImageStatusResponse(image=self._image(image) if image else None)

    async def PullImage(self, request: Message, _context: object) -> Message:
        image = self._images.find(request.image.image)
        if image is None:
            raise NotFound(self._images.missing(request.image.user_specified_image or request.image.image))
        return self._api.PullImageResponse(image_ref=image.digest)

    async def RemoveImage(self, request: Message, _context: object) -> Message:
        if self._images.find(request.image.image):
            raise Refused(f"the image {request.image.image} is an environment of this machine, which no node removes")
        return self._api.RemoveImageResponse()

    async def ImageFsInfo(self, _request: Message, _context: object) -> Message:
        folder = self._file.parent
        disk = os.statvfs(folder)
        usage = {
            "timestamp": self._now(),
            "fs_id": {"mountpoint": str(folder)},
            "used_bytes": {"value": (disk.f_blocks - disk.f_bfree) * disk.f_frsize},
            "inodes_used": {"value": disk.f_files - disk.f_ffree},
        }
        return self._api.ImageFsInfoResponse(image_filesystems=[usage], container_filesystems=[usage])

    def _image(self, image: Image) -> dict[str, Any]:
        return {
            "id": image.digest,
            "repo_tags": [image.reference],
            "size": max(image.size, 1),
            **_image_user(image.user),
            "spec": {"image": image.reference},
            "pinned": True,  # so the kubelet's image garbage collection leaves it alone
        }


def _image_user(user: str) -> dict[str, Any]:
    """An image's user as the CRI has it: by number or by name, without its group."""
    name = user.partition(":")[0] or "0"
    return {"uid": {"value": int(name)}} if name.isdecimal() else {"username": name}


def _matches(wanted: Message, id_: str, state: int, labels: Message) -> bool:
    if not id_.startswith(wanted.id) or (wanted.HasField("state") and wanted.state.state != state):
        return False
    selector: Iterable[tuple[str, str]] = wanted.label_selector.items()
    return all(labels.get(key) == value for key, value in selector)
