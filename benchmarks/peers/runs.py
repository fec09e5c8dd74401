"""One run of one client against a stub server of its own, and what both say of it.

Place: `load_peers` calls `measure`. Limits: a client that cannot be installed or started, ends with an error, or says
nothing of any request is `NotMeasured`, with its own words; nothing is made up for it.
"""

import resource
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from benchmarks.peers import tokenizer
from benchmarks.peers.clients import Client, Place
from benchmarks.peers.figures import Load, Measured, Truth
from benchmarks.peers.reports import Report, UnreadableReport
from clusters.api import ClusterError, Progress
from clusters.process import Child, tail
from clusters.usage import tree_seconds
from graders import process
from graders.errors import InfrastructureError

LOOK_SECONDS = 0.25
START_SECONDS = 180.0
"""For imports, on a machine that does other things too."""


class NotMeasured(Exception):
    """A client gave no figures; the message says why."""


def measure(client: Client, programs: Path, load: Load, env: Mapping[str, str], progress: Progress) -> Measured:
    """Runs a client and reads its result file.

    Raises:
        NotMeasured: there is nothing to read.
        InfrastructureError: the stub server did not start.
    """
    with tempfile.TemporaryDirectory(prefix="peers-") as name:
        out = Path(name)
        tokenizer.write(out / "tokenizer")
        argv = [sys.executable, "-m", "tests.graders.stub_server", str(load.ttft), str(load.tpot)]
        with process.Child(argv, log=out / "stub.log") as stub:
            place = Place(_port(stub), out / "tokenizer", out)
            before = _reaped()
            looks = _follow(client, client.command(programs, load, place), {**env, **client.env}, out, load, progress)
            cpu = _reaped() - before
            stub.tell("truth")
            truth = msgspec.json.decode(stub.hear(60) or "{}", type=dict[str, Truth])
        run = Measured(
            load, _reports(client, out), {key: each for key, each in truth.items() if each.writes}, looks, cpu
        )
    if not any(each.name in run.truth for each in run.reports):
        raise NotMeasured(f"of {len(run.reports)} requests that it reports, the stub knows none by name")
    return run


def find(client: Client, cache: Path, env: Mapping[str, str], progress: Progress) -> Path:
    """The folder of a client's programs; raises NotMeasured when it cannot be installed."""
    try:
        return client.find(cache, env, progress)
    except ClusterError as error:
        raise NotMeasured(str(error)) from error


def _port(stub: process.Child) -> int:
    said = stub.hear(60)
    if said is None:
        raise InfrastructureError(f"the stub server did not start: {stub.last_words()}")
    return int(said)


def _follow(
    client: Client, argv: list[str], env: Mapping[str, str], out: Path, load: Load, progress: Progress
) -> list[tuple[float, float]]:
    """Runs it to its end and looks at its processor time on the way."""
    log, begun = out / "client.log", time.monotonic()
    looks = [(begun, 0.0)]
    limit = START_SECONDS + 4 * load.seconds
    try:
        child = Child(argv, log=log, env=env, cwd=out)
    except ClusterError as error:
        raise NotMeasured(str(error)) from error
    try:
        while (status := child.wait(LOOK_SECONDS)) is None:
            now = time.monotonic()
            looks.append((now, tree_seconds((child.pid,))))
            progress(f"{client.name}: {now - begun:.0f} s, the load is of {load.seconds:.0f} s")
            if now - begun > limit:
                raise NotMeasured(f"it had not ended after {limit:.0f} s; its output ends: {tail(log, 5)}")
    finally:
        child.stop()
    if status:
        raise NotMeasured(f"it ended with status {status}; its output ends: {tail(log, 10)}")
    return looks


def _reports(client: Client, out: Path) -> list[Report]:
    try:
        return client.read((out / client.result).read_bytes())
    except FileNotFoundError as error:
        raise NotMeasured(
            f"it ended well but wrote no {client.result}; its output ends: {tail(out / 'client.log', 10)}"
        ) from error
    except UnreadableReport as error:
        raise NotMeasured(f"its {client.result} is not as its version writes it: {error}") from error


def _reaped() -> float:
    """Seconds of processor time of all children of this process that have ended, with theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
