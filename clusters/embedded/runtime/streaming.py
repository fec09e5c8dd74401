# ruff: noqa: D102, N802 - the methods have the names of the API, and are described there
"""Exec, attach and port-forward: the kubelet is given a URL of the node's streaming helper, which does the rest.

Place: `services.py` inherits `Streaming`; `server.py` starts the `Helper`. The helper, Kubernetes' own library in the
Go program, speaks to clients; this module tells it which argument list enters a container, and gives it the streams of
running containers on a socket (`Attaching`). Limits: a session dies with the helper, which is started again.
"""

import asyncio
import contextlib
import http.client
import logging
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from clusters.embedded import protos
from clusters.embedded.protos import Message
from clusters.embedded.runtime import execute
from clusters.embedded.runtime.container import Container, State
from clusters.embedded.runtime.errors import Refused, RuntimeFault, Unavailable
from clusters.embedded.runtime.launch import Launcher
from clusters.embedded.runtime.sandbox import Sandboxes
from clusters.embedded.runtime.spawn import Running
from clusters.embedded.runtime.streams import Name

_FIRST, _LONGEST = 0.1, 10.0  # seconds before a helper that ended is started again: at first, and at most
_SETTLED = 60.0  # seconds after which it counts as having worked
_ANSWER = 10.0  # seconds that it may take to answer, or to be there again
_LOOK = 0.02

log = logging.getLogger(__name__)


class Helper:
    """The node's streaming helper: started, started again, asked."""

    def __init__(self, program: str, setpriv: str, runtime: Path) -> None:
        """Keeps its two sockets beside the `runtime`'s."""
        self.control, self.attach = runtime.with_suffix(".control"), runtime.with_suffix(".attach")
        argv = [program, "--control", str(self.control), "--attach", str(self.attach)]
        self._argv = [setpriv, "--pdeathsig", "KILL", "--", *argv]
        self._ended = "it was not started yet"

    async def keep(self) -> None:
        """Runs the helper, each time longer after its end, until cancelled."""
        loop, delay = asyncio.get_running_loop(), _FIRST
        while True:
            self.control.unlink(missing_ok=True)
            began = loop.time()
            status = await self._run()
            delay = _FIRST if loop.time() - began > _SETTLED else min(2 * delay, _LONGEST)
            self._ended = f"it ended with status {status}"
            log.warning("the streaming helper ended with status %d; it is started again in %g s", status, delay)
            await asyncio.sleep(delay)

    async def url(self, kind: str, request: dict[str, Any]) -> str:
        """Where a client finds the session that `request` describes.

        Raises:
            Refused: the helper does not offer it.
            Unavailable: the helper does not answer.
        """
        deadline = asyncio.get_running_loop().time() + _ANSWER
        while True:
            try:
                status, said = await asyncio.to_thread(_post, self.control, f"/{kind}", msgspec.json.encode(request))
            except OSError as error:
                if asyncio.get_running_loop().time() > deadline:
                    raise Unavailable(
                        f"the node's streaming helper, which serves {kind}, does not answer ({error}; {self._ended}); "
                        "it is started again by itself, so try once more; what it said is in the node's runtime.log"
                    ) from error
                await asyncio.sleep(_LOOK)
            else:
                if status != http.client.OK:
                    raise Refused(f"the node's streaming helper refuses {kind}: {said}")
                return said

    async def _run(self) -> int:
        process = Running(self._argv)
        try:
            await process.read(_Said(), _Said())
            return await process.wait()
        finally:
            process.kill()
            process.close()


class _Said(asyncio.Protocol):
    """What the helper prints goes into the runtime's own log."""

    def data_received(self, data: bytes) -> None:
        for line in data.decode(errors="replace").splitlines():
            log.info("streaming helper: %s", line)


class Wanted(msgspec.Struct, frozen=True):
    """The first line on a connection of the helper: which stream of which container it is to carry."""

    container: str
    stream: Name


class Attaching:
    """Gives the helper the streams of running containers, one per connection to a socket."""

    def __init__(self, find: Callable[[str], Container]) -> None:
        """`find` raises NotFound for a container that is not there."""
        self._find = find

    async def serve(self, path: Path) -> None:
        """Serves on the unix socket `path` until cancelled."""
        path.unlink(missing_ok=True)
        async with await asyncio.start_unix_server(self._carry, path) as server:
            await server.serve_forever()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            wanted = msgspec.json.decode(await reader.readline(), type=Wanted)
            await self._find(wanted.container).streams.serve(wanted.stream, reader, writer)
        except (RuntimeFault, msgspec.MsgspecError, OSError, ValueError) as error:
            log.warning("a stream of a container was not served: %s", error)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


class Streaming:
    """The calls of the CRI that answer with a URL."""

    _api: protos.Api
    _pods: Sandboxes
    _programs: dict[str, str]
    _helper: Helper
    _launcher: Launcher

    async def Exec(self, request: Message, _context: object) -> Message:
        container, init = self._running(request.container_id, "no command can be run in it")
        box = container.plan.box
        if request.tty:
            box = msgspec.structs.replace(box, env={"TERM": "xterm"} | box.env)
        nsenter, launcher = self._programs["nsenter"], self._launcher
        argv = execute.entering(box, init, request.cmd, nsenter, launcher, terminal=request.tty)
        root = f"/proc/{init}/root"  # house: the kernel's name for a process's root, no home folder
        url = await self._helper.url("exec", {"container_id": root, "cmd": argv, **_wishes(request)})
        return self._api.ExecResponse(url=url)

    async def Attach(self, request: Message, _context: object) -> Message:
        container, _ = self._running(request.container_id, "nothing can be attached to it")
        url = await self._helper.url("attach", {"container_id": container.id, **_wishes(request)})
        return self._api.AttachResponse(url=url)

    async def PortForward(self, request: Message, _context: object) -> Message:
        pod = self._pods.find(request.pod_sandbox_id)
        if not pod.ready:
            raise Refused(f"pod sandbox {pod.id!r} is stopped, so no port of it can be forwarded")
        wishes = {"pod_sandbox_id": pod.namespaces.path("net") or "", "port": list(request.port)}
        return self._api.PortForwardResponse(url=await self._helper.url("portforward", wishes))

    def _running(self, id_: str, therefore: str) -> tuple[Container, int]:
        """A container that runs, and its process 1."""
        container = self._pods.container(id_)
        if container.state is not State.RUNNING or container.init is None:
            raise Refused(f"container {container.id!r} does not run, so {therefore}")
        return container, container.init


def _wishes(request: Message) -> dict[str, bool]:
    return {name: getattr(request, name) for name in ("tty", "stdin", "stdout", "stderr")}


def _post(path: Path, place: str, body: bytes) -> tuple[int, str]:
    """Status and text of an HTTP answer on a unix socket."""
    connection = http.client.HTTPConnection("streaming", timeout=_ANSWER)
    connection.sock = socket.socket(socket.AF_UNIX)
    try:
        connection.sock.settimeout(_ANSWER)
        connection.sock.connect(str(path))
        connection.request("POST", place, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace").strip()
    except http.client.HTTPException as error:
        raise OSError(f"no answer: {error!r}") from error
    finally:
        connection.close()
