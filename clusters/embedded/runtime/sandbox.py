"""Pod sandboxes: a network namespace with an address, the pod's shared memory, and the containers in it.

Place: `server.py` translates the kubelet's calls to these. Limits: nothing is kept on disk, for a pod cannot outlive
the runtime's process.
"""

import asyncio
import contextlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from clusters.embedded.protos import Message
from clusters.embedded.runtime import hostports, mounts, namespaces, network
from clusters.embedded.runtime.config import NodeConfig
from clusters.embedded.runtime.container import Container
from clusters.embedded.runtime.errors import NotFound, Refused
from clusters.embedded.runtime.namespaces import Namespaces

_POD, _NODE = 0, 2  # NamespaceMode of the CRI
_OF_NETWORK = re.compile(r"net(\.[\w-]+)+")  # sysctls that each network namespace has of its own
_OF_IPC = re.compile(r"kernel\.(shm\w+|msg\w+|sem)|fs\.mqueue\.\w+")  # and each IPC namespace
_SHORT = 16  # digits of an id that are enough to tell the pods of a node apart
_SHM = 64 << 20  # bytes, as everywhere


class Sandbox:
    """One pod: `config` as the kubelet gave it; times in nanoseconds since 1970; no address on the node's network.

    `shm` is its shared memory: a mount with a short path, for each of the node's is read at each start of a container.
    """

    def __init__(self, id_: str, config: Message, shm: Path, created: int) -> None:
        self.id, self.config, self.shm, self.created = id_, config, shm, created
        self.address: str | None = None
        self.ready = True
        self.namespaces = Namespaces({})
        self.pause: Container | None = None
        self.containers: dict[str, Container] = {}
        self.changing = asyncio.Lock()

    @property
    def hostname(self) -> str:
        """What the pod's containers call their machine."""
        return str(self.config.hostname)

    def all(self) -> list[Container]:
        """What runs in it: its containers, and the one that holds the processes that they share."""
        return [*self.containers.values(), *([self.pause] if self.pause else [])]

    @property
    def first(self) -> int | None:
        """Process 1 of the PID namespace that its containers share; None when each has its own."""
        return self.pause.init if self.pause else None

    @property
    def files(self) -> dict[str, str]:
        """Files that every container of the pod has: path in the container -> text."""
        return {"/etc/hostname": f"{self.hostname}\n", "/etc/resolv.conf": resolv_conf(self.config.dns_config)}


class Sandboxes:
    """The pods of one node."""

    def __init__(
        self,
        addresses: network.Addresses,
        config: NodeConfig,
        *,
        programs: dict[str, str],
        new_id: Callable[[], str],
        now: Callable[[], int],
    ) -> None:
        """`config` is the node's; `programs` are the paths of ip, nft and unshare; `now` is in nanoseconds."""
        self._addresses, self._config = addresses, config
        self._programs, self._new_id, self._now = programs, new_id, now
        self._pods: dict[str, Sandbox] = {}

    async def run(self, config: Message) -> Sandbox:
        """Makes a pod's sandbox.

        Raises:
            Refused: the pod asks for what the runtime does not offer.
            Exhausted: the node has no address left.
            CommandFailed: the kernel refused a step of its network.
        """
        refuse_unsupported(config)
        on_node = config.linux.security_context.namespace_options.network == _NODE
        id_ = self._new_id()
        pod = Sandbox(id_, config, Path(self._config.shm) / id_[:_SHORT], self._now())
        try:
            if config.log_directory:
                Path(config.log_directory).mkdir(parents=True, exist_ok=True)
            pod.config.hostname = config.hostname or self._config.name
            pod.shm.mkdir(parents=True)
            mounts.tmpfs(pod.shm, _SHM)
            if not on_node:
                pod.address = self._addresses.take()
            pod.namespaces = await asyncio.to_thread(self._make, pod)
        except BaseException:
            self._forget(pod)
            raise
        self._pods[pod.id] = pod
        return pod

    async def stop(self, id_: str) -> None:
        """Kills what runs in a pod and takes its network away; a pod that is gone or stopped is no error."""
        pod = self._pods.get(id_)
        if pod is None:
            return
        async with pod.changing:
            await asyncio.gather(*(container.kill() for container in pod.all()))
            if pod.ready and pod.address:
                if hostports.wanted(pod.config.port_mappings):
                    await asyncio.to_thread(hostports.close, pod.id, self._config.address, nft=self._programs["nft"])
                await network.detach(pod.id, ip=self._programs["ip"])
                self._addresses.give_back(pod.address)
            pod.namespaces.close()
            pod.ready = False

    async def remove(self, id_: str) -> None:
        """Stops a pod and forgets it with its containers; a pod that is gone is no error."""
        await self.stop(id_)
        pod = self._pods.pop(id_, None)
        if pod is not None:
            for container in pod.containers.values():
                await container.forget()
            self._free(pod)

    def find(self, id_: str) -> Sandbox:
        """The pod with this id.

        Raises:
            NotFound: there is none.
        """
        if id_ not in self._pods:
            raise NotFound(f"no pod sandbox {id_!r} on node {self._config.name!r}")
        return self._pods[id_]

    def all(self) -> list[Sandbox]:
        """All pods, stopped ones too."""
        return list(self._pods.values())

    def container(self, id_: str) -> Container:
        """The container with this id.

        Raises:
            NotFound: there is none.
        """
        for pod in self._pods.values():
            if id_ in pod.containers:
                return pod.containers[id_]
        raise NotFound(f"no container {id_!r} on node {self._config.name!r}")

    async def remove_container(self, id_: str) -> None:
        """Kills a container and forgets it; one that is gone is no error."""
        with contextlib.suppress(NotFound):
            container = self.container(id_)
            await container.kill()
            await container.forget()
            self._pods[container.pod].containers.pop(id_, None)

    async def stop_all(self) -> None:
        """Kills every container; for the end of the runtime."""
        await asyncio.gather(*(container.kill() for pod in self.all() for container in pod.all()))

    def _make(self, pod: Sandbox) -> Namespaces:
        options = pod.config.linux.security_context.namespace_options
        shared = [kind for kind, mode in (("net", options.network), ("ipc", options.ipc)) if mode == _NODE]
        settings = dict(pod.config.linux.sysctls) | ({} if "net" in shared else network.SYSCTLS)
        address = pod.address

        def attach(process_id: int) -> None:
            if address:
                network.attach(pod.id, address, process_id, ip=self._programs["ip"])

        made = namespaces.make(
            pod.hostname,
            {str(setting(name, Path(self._config.proc))): value for name, value in settings.items()},
            shared=shared,
            attach=attach,
            commands=network.pod_side(address) if address else "",
            programs=self._programs,
        )
        ports = hostports.wanted(pod.config.port_mappings)
        if address and ports:
            try:
                hostports.open_(pod.id, address, self._config.address, ports, nft=self._programs["nft"])
            except BaseException:
                made.close()
                raise
        return made

    def _forget(self, pod: Sandbox) -> None:
        if pod.address:
            self._addresses.give_back(pod.address)
        pod.namespaces.close()
        self._free(pod)

    def _free(self, pod: Sandbox) -> None:
        mounts.remove(pod.shm)
        shutil.rmtree(pod.shm, ignore_errors=True)


def resolv_conf(dns: Message) -> str:
    """The text of resolv.conf(5)."""
    lines = [f"nameserver {server}" for server in dns.servers]
    lines += [f"search {' '.join(dns.searches)}"] if dns.searches else []
    lines += [f"options {' '.join(dns.options)}"] if dns.options else []
    return "".join(f"{line}\n" for line in lines)


def setting(name: str, proc: Path) -> Path:
    """The file of a sysctl, below a /proc."""
    return proc / "sys" / name.replace(".", "/")


def shares_processes(config: Message) -> bool:
    """Whether a pod's containers see each other's processes."""
    security = config.linux.security_context
    return bool(security.HasField("namespace_options") and security.namespace_options.pid == _POD)


def refuse_unsupported(config: Message) -> None:
    """Raises Refused when a pod asks for what the runtime does not offer."""
    namespaces = config.linux.security_context.namespace_options
    on_node = namespaces.network == _NODE
    wrong = []
    if namespaces.pid == _NODE:
        wrong.append("hostPID")
    own = [] if on_node else [_OF_NETWORK]
    own += [] if namespaces.ipc == _NODE else [_OF_IPC]
    wrong += [f"the sysctl {name}" for name in config.linux.sysctls if not any(each.fullmatch(name) for each in own)]
    if wrong:
        raise Refused(
            f"pod {config.metadata.namespace}/{config.metadata.name} asks for {' and '.join(wrong)}, which the "
            "embedded cluster does not offer; leave it out or use --cluster kind"
        )
