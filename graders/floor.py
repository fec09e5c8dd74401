"""What the load client adds of itself: a short run against a null server, whose tokens tell when they were written.

Place: `load.run` asks `measured` before a run; it measures once per process and configuration. Limits: on loopback of
the machine itself, where no server competes for the cores; how the client fared beside the real one, `Health` says.
"""

import datetime
import ipaddress
import statistics
import sys
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from graders import arrivals, workers, workload
from graders.diagnosis import Floor, p99
from graders.errors import HarnessError
from graders.plan import Plan, Target, Tls
from graders.process import Child
from graders.samples import Run

STREAMS = 512
"""At most so many streams: beyond, a null server in Python needs more than a core."""
RATE = 16000.0
"""Tokens per second of all streams, at most, for the same reason."""
GAP = 0.004
"""Seconds between two tokens of a stream, at least: as a fast engine with few streams."""
TOKENS = 16
RAMP, WINDOW = 0.2, 0.5
"""Seconds: enough for some hundred tokens even with one stream, whose median then stands within some percent."""
TRIES = 5
"""Of which one has to be answered: a machine that stands still for half a second leaves a window empty."""
START_SECONDS = 30.0
"""As long as a worker may take to start."""

_known: dict[tuple[int, int, bool], Floor] = {}


def measured(plan: Plan, count: int, folder: Path) -> Floor:
    """The floor for a plan that `count` workers carry out.

    Streams are those of a closed loop, or the most arrivals planned within a second, rounded up to a power of two, so
    that runs which hardly differ share a floor.

    Args:
        plan: what will be run.
        count: worker processes.
        folder: for files in passing, which are removed again.

    Raises:
        HarnessError: the null server could not be started, or was not answered by.
        InfrastructureError: a worker could not be started.
    """
    streams = min(STREAMS, 1 << (max(1, plan.schedule.streams or _peak(plan.schedule.times)) - 1).bit_length())
    key = (streams, min(count, streams), plan.target.tls is not None)
    if key not in _known:
        _known[key] = _measure(*key, folder)
    return _known[key]


def certificate(folder: Path) -> Path:
    """A new key with a certificate for 127.0.0.1 that nobody signed, in one PEM file in `folder`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "null server")])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    file = folder / "null-server.pem"
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    file.touch(0o600)
    file.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain) + made.public_bytes(pem))
    return file


def _peak(times: tuple[float, ...]) -> int:
    """The most arrivals within a second."""
    first = most = 0
    for last, time in enumerate(times):
        while time - times[first] >= 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most


def _measure(streams: int, count: int, tls: bool, folder: Path) -> Floor:
    gap = max(GAP, streams / RATE)
    rounds = 2 + int((RAMP + WINDOW) / (0.5 * gap * TOKENS))
    with tempfile.TemporaryDirectory(prefix="floor-", dir=folder) as name:
        place = Path(name)
        argv = [sys.executable, "-m", "graders.null_server", repr(gap)]
        argv += [str(certificate(place))] if tls else []
        with Child(argv, log=place / "null-server.log") as server:
            port = server.hear(START_SECONDS)
            if port is None:
                raise HarnessError(
                    "the null server, against which the client's own floor is measured, did not start within "
                    f"{START_SECONDS:g} s; measure again on a machine that is less busy; its log ends: "
                    f"{server.last_words()}"
                )
            asked = workload.completions(
                seed=1, count=streams * rounds, ids=range(1, 1000), prompt_tokens=8, output_tokens=TOKENS, model="null"
            )
            plan = Plan(
                target=Target(host="127.0.0.1", port=int(port), tls=Tls(verify=False) if tls else None),
                requests=asked,
                schedule=arrivals.closed(streams),
                ramp=RAMP,
                window=WINDOW,
                drain=5.0,
                seed=1,
            )
            for _ in range(TRIES):
                run = workers.carry_out(plan, count=count, folder=place)
                if _is_answered(run):
                    break
            return read(run)


def _is_answered(run: Run) -> bool:
    return any(each.complete for each in run.measured) and not run.incomplete


def read(run: Run) -> Floor:
    """The floor that a run against a null server shows; raises HarnessError when it was not answered as asked."""
    plan, answers = run.plan, [each for each in run.measured if each.complete]
    if not _is_answered(run):
        raise HarnessError(
            f"the null server did not answer as asked, so the client's own floor is not known: "
            f"{run.wrong() or 'nothing came in the window'}; measure again on a machine that is less busy"
        )
    begun = [(each.sample.sent, each.stream.first_token) for each in answers]
    late = [
        run.t0 + chunk.time - float(chunk.text)
        for each in run.answers
        if each.complete
        for chunk in each.stream.token_chunks
        if plan.in_window(chunk.time)
    ]
    return Floor(
        streams=plan.schedule.streams or 0,
        workers=len(run.workers),
        tls=plan.target.tls is not None,
        events=len(late),
        ttft=statistics.median(first - sent for sent, first in begun if sent is not None and first is not None),
        late=statistics.median(late),
        late_p99=p99(late),
        cpu=sum(worker.cpu for worker in run.workers) / len(late),
    )
