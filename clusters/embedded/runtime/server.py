"""The runtime of a node, served to its kubelet; `python -m clusters.embedded.runtime.server NODE.json` runs it alone.

Place: `node.py` calls `serve` in the node's mount namespace, inside the holder's network, PID and (as an ordinary user)
user namespaces; the kubelet calls it. Limits: its containers end with it, so a new start is a node without containers.
"""

import asyncio
import contextlib
import logging
import os
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Coroutine
from functools import cache, partial
from pathlib import Path

import grpc

from clusters import process
from clusters.api import SpecError
from clusters.embedded import cgroups, protos
from clusters.embedded.runtime import (
    base,
    errors,
    gpus,
    hostports,
    images,
    namespaces,
    network,
    processes,
    services,
    spawn,
    watch,
)
from clusters.embedded.runtime.config import NodeConfig, read
from clusters.embedded.runtime.launch import Launcher
from clusters.embedded.runtime.sandbox import Sandboxes
from clusters.embedded.runtime.stage import Stage
from clusters.embedded.runtime.streaming import Attaching, Helper

CODES = {
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.Refused: grpc.StatusCode.FAILED_PRECONDITION,
    errors.Exhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.TimedOut: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.StartFailed: grpc.StatusCode.UNKNOWN,  # as containerd answers
    process.CommandFailed: grpc.StatusCode.INTERNAL,
    SpecError: grpc.StatusCode.INTERNAL,  # the list of images became unreadable
}
_PROGRAMS = ("bwrap", "ip", "nft", "nice", "nsenter", "setpriv", "unshare")

_log = logging.getLogger(__name__)


async def serve(config: NodeConfig, stop: asyncio.Event) -> None:
    """Runs a node's runtime, and its device plugin where it has devices, until `stop` is set; then kills what runs.

    Raises:
        MachineError: a program is missing on this machine.
    """
    os.umask(0o022)  # the containers inherit it
    programs = {name: spawn.find(name) for name in _PROGRAMS}
    state = Path(config.state)
    _empty(state / "containers", state / "stage", Path(config.shm))
    cgroups.renew(config.limits)  # a runtime before this one has left its own, whose containers ended with it
    network.clear(config.pods, ip=programs["ip"])
    hostports.clear(config.address, nft=programs["nft"])
    api = protos.load(Path(config.descriptors) / "cri.binpb")
    known = images.load(Path(config.images), Path(config.added_images) if config.added_images else None)
    pods = Sandboxes(
        network.Addresses(config.pods),
        config,
        programs=programs,
        new_id=lambda: secrets.token_hex(32),
        now=time.time_ns,
    )
    helper = Helper(config.streaming, programs["setpriv"], Path(config.socket))
    runtime = services.RuntimeService(
        api,
        config,
        known,
        pods,
        base=cache(partial(_base, state / "base")),
        stage=Stage(state / "stage"),
        users=namespaces.users(Path("/proc/self/uid_map").read_text()),
        launcher=Launcher(Path(config.launch)),
        programs=programs,
        helper=helper,
        new_id=lambda: secrets.token_hex(32),
        now=time.time_ns,
    )
    offers = {
        "RuntimeService": runtime,
        "ImageService": services.ImageService(api, known, Path(config.images), time.time_ns),
    }
    handlers = [api.handlers(name, each, speaker="gpulab's runtime", codes=CODES) for name, each in offers.items()]
    Path(config.socket).unlink(missing_ok=True)
    server = protos.server(Path(config.socket), *handlers)
    await server.start()
    parts = [helper.keep(), Attaching(pods.container).serve(helper.attach)]
    parts.append(gpus.serve(config, partial(processes.held, pods)))
    if config.limits.kind == "watch":
        parts.append(watch.watch(pods))
    tasks = [_begin(each, stop) for each in parts]
    try:
        await stop.wait()
    finally:
        for task in tasks:
            task.cancel()
        await pods.stop_all()
        await server.stop(0)
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task


def _empty(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, mode=0o700)


def _base(place: Path) -> Path:
    """Where the root of containers without one of their image's is, made anew."""
    shutil.rmtree(place, ignore_errors=True)
    base.make(place)
    return place


def _begin(part: Coroutine[None, None, None], stop: asyncio.Event) -> asyncio.Task[None]:
    """Runs a part of the node, which ends when it fails: that is seen and mended, a node that lacks a part is not."""

    def done(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            _log.error("a part of this node failed, so it ends", exc_info=error)
            stop.set()

    task = asyncio.create_task(part)
    task.add_done_callback(done)
    return task


async def main(path: Path) -> None:
    """Serves until SIGTERM or SIGINT."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await serve(read(path), stop)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
