"""What a measurement will do, complete before the clock starts: target, requests, schedule, phases, time-outs.

Place: lab checks build a `Plan`, `load.run` carries it out, the record keeps it whole. Limits: one target, HTTP/1.1,
POST only.
"""

import hashlib
import ssl
from itertools import pairwise

import msgspec

from graders.arrivals import Schedule
from graders.errors import HarnessError
from graders.streaming import Asked


class Tls(msgspec.Struct, frozen=True, kw_only=True):
    """How an https target is trusted.

    `authority`: PEM text of the certificates to trust, None for this machine's own; `verify`: False trusts anyone, for
    certificates that nobody signed; `name`: what the certificate must be made out to, None for the target's host.
    """

    authority: str | None = None
    verify: bool = True
    name: str | None = None

    def mistake(self) -> str | None:
        """What makes this impossible, or None."""
        if self.authority is None:
            return None
        if not self.verify:
            return "its TLS names an authority, and is told to verify nothing"
        try:
            ssl.create_default_context(cadata=self.authority)
        except (ssl.SSLError, ValueError):
            return "its TLS authority is no PEM text of certificates"
        return None


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where requests go. `host` is an IP address, so that no name is looked up while measuring; `tls` None is http."""

    host: str
    port: int
    path: str = "/v1/completions"
    headers: dict[str, str] = {}
    tls: Tls | None = None


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds after which a request has failed, each from the start of its phase.

    `connect` with the TLS handshake; `first_byte` and `total` from sending; `between_reads` from the read before.
    """

    connect: float = 5.0
    first_byte: float = 60.0
    between_reads: float = 30.0
    total: float = 300.0


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One request.

    Attributes:
        body: the bytes of its JSON body.
        asked: what its answer is held to.
        workload: name of the part of a mixture that it comes from.
        prefix: name of the group with which it shares its beginning; None where it shares none.
        session: number of the conversation that it goes on with, within its workload; None outside of one.
        turn: its place in that conversation, from 0.
        shared_tokens: so many first tokens of its prompt are also those of a request before it, which is all that a
            prefix cache can have of it; None where the prompt is text, whose tokens are not known.
    """

    body: bytes
    asked: Asked
    workload: str | None = None
    prefix: str | None = None
    session: int | None = None
    turn: int | None = None
    shared_tokens: int | None = None


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A measurement.

    Attributes:
        target: where requests go.
        requests: the n-th belongs to the n-th planned time; in a closed loop of s streams, stream k sends the requests
            k, k+s, k+2s and so on.
        schedule: when. Arrivals that it plans after the window hold up the load while the window's last answers come.
        ramp: seconds from t0 that are not measured.
        window: seconds after the ramp that are measured.
        drain: seconds after the window in which answers may still come; what has not ended then is unfinished.
        connections: at most so many at once; a request that would need one more fails instead of waiting.
        timeouts: per phase of a request.
        seed: what `requests` were drawn from, for the record.
    """

    target: Target
    requests: tuple[Request, ...]
    schedule: Schedule
    window: float
    ramp: float = 0.0
    drain: float = 30.0
    connections: int = 1024
    timeouts: Timeouts = Timeouts()
    seed: int | None = None

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the schedule and then each request, as JSON lines: what was sent, and when."""
        found = hashlib.sha256(msgspec.json.encode(self.schedule))
        for request in self.requests:
            found.update(b"\n" + msgspec.json.encode(request))
        return found.hexdigest()

    @property
    def window_end(self) -> float:
        """End of the window in seconds from t0."""
        return self.ramp + self.window

    @property
    def end(self) -> float:
        """End of the drain in seconds from t0."""
        return self.window_end + self.drain

    def in_window(self, time: float) -> bool:
        """Whether a time in seconds from t0 is measured."""
        return self.ramp <= time < self.window_end

    def mistake(self) -> str | None:
        """What makes this plan impossible, or None."""
        streams, times = self.schedule.streams, self.schedule.times
        if self.target.tls and (mistake := self.target.tls.mistake()):
            return mistake
        if self.window <= 0 or self.ramp < 0 or self.drain < 0:
            return f"ramp, window and drain are {self.ramp:g}, {self.window:g} and {self.drain:g} s"
        count = len(self.requests)
        if streams is not None and streams > min(self.connections, count):
            return f"{streams} streams need as many connections and requests, not {self.connections} and {count}"
        if len(times) > count:
            return f"{len(times)} arrivals are planned, but only {count} requests are there"
        if streams is None and not times:
            return "no arrival is planned"
        if any(later < sooner for sooner, later in pairwise(times)):
            return "the planned times do not ascend"
        return None

    def check(self) -> None:
        """Raises HarnessError when the plan is impossible."""
        if mistake := self.mistake():
            raise HarnessError(f"this load cannot be run: {mistake}; correct the plan")


def encode_request(target: Target, request: Request, name: str) -> bytes:
    """The bytes of one HTTP/1.1 request; `name` goes into X-Request-Id, for the server's logs."""
    authority = f"[{target.host}]" if ":" in target.host else target.host
    headers = {
        "Host": f"{authority}:{target.port}",
        "Content-Type": "application/json",
        "Accept": "text/event-stream",
        "Accept-Encoding": "identity",
        "X-Request-Id": name,
        "Content-Length": str(len(request.body)),
        **target.headers,
    }
    lines = [f"POST {target.path} HTTP/1.1", *(f"{key}: {value}" for key, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + request.body
