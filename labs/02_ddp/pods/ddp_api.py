"""What the data service answers to each request, and the waiting for a turn; no sockets.

Place: `data_service` reads requests from sockets and writes what `Api.answer` returns. Limits: one lock over all runs,
held while deciding and not while samples are copied; an answer is held back for PATIENCE seconds at most.

    pods                                         the grader, with X-Token
    POST /join {node, pid, world}                PUT  /control/runs/NAME RunSpec
    GET  /weights                                POST /control/runs/NAME/turn {until}
    POST /batch {epoch, step, micro, indices}    GET  /control/runs/NAME/events?since=K
    POST /tick {step}                            GET  /control/runs/NAME/weights?rank=R&step=S (or step=finish)
    POST /introduce {members, backend}           GET  /control/health (needs no token)
    POST /report {step, loss, draw}
    POST /weights?step=N, POST /finish (raw)
"""

import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from http import HTTPStatus
from threading import Condition
from typing import Any
from urllib.parse import parse_qs

import numpy as np

from ddp_data import Array, Data
from ddp_runs import FINISH, Caller, Run, Runs
from ddp_spec import (
    Job,
    Refused,
    RunSpec,
    fields_of,
    listed,
    number,
    read_until,
    run_name,
    shown,
    text,
    whole,
)

PATIENCE = 600.0
"""Seconds after which a held request ends as refused, so that nothing waits for ever."""
JSON_BYTES = 2**20
MEMBERS = 64
RANKS = 1024


@dataclass(frozen=True)
class Request:
    """One request; header names in lower case, the body as it came."""

    method: str
    target: str
    headers: Mapping[str, str]
    ip: str
    body: bytes = b""

    @property
    def path(self) -> str:
        """Without what is asked of it."""
        return self.target.partition("?")[0]

    def query(self, name: str) -> str:
        """One value of the query; empty where it is not there."""
        return parse_qs(self.target.partition("?")[2]).get(name, [""])[0]

    def json(self) -> object:
        """The body."""
        try:
            return json.loads(self.body, parse_constant=_no_constant)
        except RecursionError as error:
            raise Refused(400, "the body is nested too deeply to be read") from error
        except ValueError as error:
            raise Refused(400, f"the body is no JSON: {str(error)[:100]}") from error


@dataclass(frozen=True)
class Rows:
    """Samples to be sent: they are copied to where they are sent from."""

    data: Data
    rows: Array

    def __len__(self) -> int:
        return len(self.rows) * self.data.row_bytes

    def write(self, to: memoryview) -> None:
        """Into so many bytes."""
        self.data.write(self.rows, to)


@dataclass(frozen=True)
class Reply:
    """Status and body."""

    body: bytes | Rows = b"{}"
    status: int = HTTPStatus.OK
    kind: str = "application/json"


def reply(value: object, status: int = HTTPStatus.OK) -> Reply:
    """An answer in JSON."""
    return Reply(json.dumps(value).encode(), status)


def raw(body: bytes | Rows) -> Reply:
    """An answer in numbers."""
    return Reply(body, kind="application/octet-stream")


class Api:
    """The service without its sockets."""

    def __init__(
        self, runs: Runs, *, token: str, clock: Callable[[], float], turned: Condition, patience: float = PATIENCE
    ) -> None:
        self.runs, self.token, self.clock, self.turned, self.patience = runs, token, clock, turned, patience
        self.pods: dict[tuple[str, str], Callable[[Request, Run, Caller], Reply]] = {
            ("POST", "/join"): self.join,
            ("GET", "/weights"): self.first_weights,
            ("POST", "/batch"): self.batch,
            ("POST", "/tick"): self.tick,
            ("POST", "/introduce"): self.introduce,
            ("POST", "/report"): self.report,
            ("POST", "/weights"): self.bring,
            ("POST", "/finish"): self.bring,
        }

    def answer(self, request: Request) -> Reply:
        """Serves a request, or says why not."""
        try:
            if request.path == "/control/health":
                return Reply()
            if request.path.startswith("/control/"):
                return self.control(request)
            serve = self.pods.get((request.method, request.path))
            if serve is None:
                return self.nothing(request)
            caller, run = self.caller(request)
            return serve(request, run, caller)
        except Refused as refused:
            return self.refuse(request, refused)

    def refuse(self, request: Request, refused: Refused) -> Reply:
        """Says why, and notes it in the ledger of the run that is meant, else of the one that this address joined."""
        with self.turned:
            caller, run = self.meant(request)
            waits = (request.path, refused.status) == (
                "/join",
                HTTPStatus.NOT_FOUND,
            )  # pods ask until their run is there
            if run is not None and not waits:
                run.ledger.refuse(self.clock(), request.ip, caller, f"{request.method} {request.path}", refused.why)
        return reply({"error": refused.why}, refused.status)

    def meant(self, request: Request) -> tuple[Caller | None, Run | None]:
        """Who seems to have asked, and the run that it has to do with."""
        try:
            return self.caller(request)
        except Refused:
            return None, self.runs.run_at(request.ip)

    def body_limit(self, request: Request) -> int:
        """How many bytes of body are read."""
        _, run = self.meant(request)
        uploads = (request.method, request.path) in {("POST", "/weights"), ("POST", "/finish")}
        return run.job.weights_bytes if uploads and run else JSON_BYTES

    def caller(self, request: Request) -> tuple[Caller, Run]:
        """Who asks, as far as headers tell, and for which run."""
        name, uid = (request.headers.get(each, "") for each in ("x-run", "x-uid"))
        caller = Caller(
            ip=request.ip,
            uid=text(uid, "the header X-Uid", 64),
            rank=_digits(request.headers.get("x-rank"), "the header X-Rank", RANKS - 1),
            attempt=_digits(request.headers.get("x-attempt"), "the header X-Attempt", 10**6),
        )
        return caller, self.runs.find(run_name(name))

    def join(self, request: Request, run: Run, caller: Caller) -> Reply:
        """The job of a process, which from now on has a ticket."""
        given = _body(request, "node", "pid", "world")
        node, pid = text(given["node"], "node", 253), whole(given["pid"], "pid", 1, 2**22)
        world = whole(given["world"], "world", 1, RANKS)
        with self.turned:
            ticket = self.runs.joined(run.name, caller.ip)
            return reply(run.join(caller, self.clock(), ticket, node=node, pid=pid, world=world))

    def first_weights(self, _: Request, run: Run, caller: Caller) -> Reply:
        """What the model of a rank begins with."""
        return raw(run.first_weights(caller))

    def batch(self, request: Request, run: Run, caller: Caller) -> Reply:
        """Samples, once it is this run's turn."""
        given, job = _body(request, "epoch", "step", "micro", "indices"), run.job
        epoch = whole(given["epoch"], "epoch", 0, job.epochs - 1)
        step = whole(given["step"], "step", 0, job.steps - 1)
        micro = whole(given["micro"], "micro", 0, job.micro_batches - 1)
        rows = rows_of(given["indices"], job)
        with self.turned:
            self._hold(lambda now: run.batch_wait(caller, step, now), f"the batch of step {step}")
            run.batch(caller, self.clock(), epoch=epoch, step=step, micro=micro, rows=rows)
        return raw(Rows(run.data, rows))

    def tick(self, request: Request, run: Run, caller: Caller) -> Reply:
        """A forward pass begins."""
        step = whole(_body(request, "step")["step"], "step", 0, run.job.steps - 1)
        with self.turned:
            now = self.clock()
            until = now + run.tick(caller, now, step)
            self._hold(lambda now: until - now, f"the tick of step {step}")
        return Reply()

    def introduce(self, request: Request, run: Run, caller: Caller) -> Reply:
        """Whom a process met in its process group."""
        given = _body(request, "members", may=("backend",))
        members = [_member(each) for each in listed(given["members"], "members", MEMBERS)]
        backend = None if given.get("backend") is None else text(given["backend"], "backend", 64)
        with self.turned:
            run.introduce(caller, self.clock(), members, backend)
        return Reply()

    def report(self, request: Request, run: Run, caller: Caller) -> Reply:
        """A step is done; the answer says whether the weights are wanted."""
        given = _body(request, "step", "loss", "draw")
        step = whole(given["step"], "step", 0, run.job.steps - 1)
        loss, draw = number(given["loss"], "loss"), number(given["draw"], "draw")
        with self.turned:
            return reply({"weights": run.report(caller, self.clock(), step=step, loss=loss, draw=draw)})

    def bring(self, request: Request, run: Run, caller: Caller) -> Reply:
        """Weights after a step, or at the end."""
        at_end = request.path == "/finish"
        step = None if at_end else _digits(request.query("step"), "step", run.job.steps - 1)
        digest = sha256(request.body).hexdigest()
        with self.turned:
            run.bring(caller, self.clock(), step, request.body, digest)
        return Reply()

    def control(self, request: Request) -> Reply:
        """What only the grader may."""
        if not hmac.compare_digest(request.headers.get("x-token", "").encode(), self.token.encode()):
            raise Refused(403, "the header X-Token is not the grader's; nothing under /control is for pods")
        match request.method, request.path.split("/")[2:]:
            case "PUT", ["runs", name]:
                return self.add_run(name, request)
            case "POST", ["runs", name, "turn"]:
                until = read_until(_body(request, "until")["until"])
                with self.turned:
                    self.runs.find(name).until = until
                    given = self.clock()
                    self.turned.notify_all()
                return reply({"t": given})
            case "GET", ["runs", name, "events"]:
                since = _digits(request.query("since") or "0", "since", 2**31)
                with self.turned:
                    ledger = self.runs.find(name).ledger
                    events, unlisted = ledger.page(since), ledger.unlisted
                return reply({"events": events, "unlisted": unlisted, "now": self.clock()})
            case "GET", ["runs", name, "weights"]:
                rank, step = _digits(request.query("rank"), "rank", RANKS - 1), request.query("step")
                return raw(self.runs.find(name).weights(rank, step if step == FINISH else _digits(step, "step", 2**31)))
            case _:
                return self.nothing(request)

    def nothing(self, request: Request) -> Reply:
        """There is no such path."""
        raise Refused(404, f"nothing here answers {request.method} {shown(request.path)}")

    def add_run(self, name: str, request: Request) -> Reply:
        """A new run, whose data is made without the lock."""
        spec = RunSpec.read(request.json())
        self.runs.check_new(run_name(name))
        data = self.runs.data_for(spec)
        with self.turned:
            self.runs.add(name, spec, data)
        return Reply()

    def _hold(self, wait: Callable[[float], float], what: str) -> None:
        """Waits until there is no more to wait for; the lock is held, and let go while waiting."""
        end = self.clock() + self.patience
        while (seconds := wait(now := self.clock())) > 0:
            if now >= end:
                raise Refused(503, f"{what} had no answer within {self.patience:g} s; ask again")
            self.turned.wait(min(seconds, end - now))


def rows_of(given: object, job: Job) -> Array:
    """The samples that were asked for; none is allowed, more than a global batch has are not."""
    indices = listed(given, "indices", job.batch)
    if not indices:
        return np.empty(0, np.intp)
    try:
        rows = np.asarray(indices)
    except ValueError:  # lists of unlike lengths
        rows = np.empty(0)
    if rows.ndim != 1 or rows.dtype.kind != "i" or rows.min() < 0 or rows.max() >= job.samples:
        good = (isinstance(each, int) and not isinstance(each, bool) and 0 <= each < job.samples for each in indices)
        wrong = next(each for each, is_good in zip(indices, good, strict=True) if not is_good)
        raise Refused(400, f"indices has {shown(wrong)}, where whole numbers from 0 to {job.samples - 1} belong")
    return rows.astype(np.intp, copy=False)


def _body(request: Request, *need: str, may: tuple[str, ...] = ()) -> Mapping[str, Any]:
    return fields_of(request.json(), f"the body of {request.method} {request.path}", need=need, may=may)


def _member(given: object) -> dict[str, object]:
    found = fields_of(given, "a member", need=("uid", "node", "pid", "rank", "ticket"))
    return {
        "uid": text(found["uid"], "a member's uid", 64),
        "node": text(found["node"], "a member's node", 253),
        "pid": whole(found["pid"], "a member's pid", 1, 2**22),
        "rank": whole(found["rank"], "a member's rank", 0, RANKS - 1),
        "ticket": text(found["ticket"], "a member's ticket", 64),
    }


def _digits(given: str | None, what: str, most: int) -> int:
    """A whole number as headers and queries have it."""
    good = given is not None and given.isascii() and given.isdigit() and len(given) <= 10
    return whole(int(given) if given is not None and good else given, what, 0, most)


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no number")
