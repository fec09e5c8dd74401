"""What train.py imports: its job, the model, the data, and where to tell how the training goes.

Place: beside train.py in /lab. It talks to the lab's data service, at the address in DDP_SERVICE. Limits: it does not
distribute anything; the process group, the parts of a batch, checkpoints and time-outs are yours.

    job = ddplab.join()                    # first of all, before the process group
    model = job.model()
    x, y = job.batch(indices, epoch=0, step=0)
    job.introduce()                        # once the process group is there
    job.report(step, loss, draw, model)    # after each update
    job.finish(model)                      # after the last one
    ddplab.diagnose("hang", 1, "why")      # when something is wrong and it is known what
"""

import http.client
import itertools
import json
import os
import threading
import time
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
import torch.distributed

DIAGNOSIS = Path("/dev/diagnosis.json")
FAULTS = (
    "hang",
    "loader",
    "slow",
    "model_order",
    "unused_parameter",
    "wrong_rank",
    "short_timeout",
    "rendezvous",
)
SAID = 500
"""Characters of a diagnosis, at most."""
AGAIN_SECONDS = 0.2
JOIN_SECONDS = 120.0
ANSWER_SECONDS = 660.0
"""The service holds an answer back for 600 s at most, and then says so."""


class LabError(Exception):
    """The service did not give what was asked for; `status` is that of its answer, None where there was none."""

    def __init__(self, sentence: str, status: int | None = None) -> None:
        super().__init__(sentence)
        self.status = status


class Service:
    """The data service as one process talks to it: a connection for each thread, which stays open."""

    def __init__(self, address: str, headers: Mapping[str, str]) -> None:
        self.address, self.headers = address, dict(headers)
        self._own = threading.local()

    def ask(self, method: str, path: str, body: bytes = b"") -> bytes:
        """The body of the answer; raises LabError for every status but 200."""
        connection = self._connection()
        try:
            connection.request(method, path, body, self.headers)
            answer = connection.getresponse()
            found = answer.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise LabError(f"{method} {path}: no answer from {self.address}: {error!r}") from error
        if answer.status != http.client.OK:
            raise LabError(f"{method} {path}: {_sentence(found)}", answer.status)
        return found

    def post(self, path: str, body: Mapping[str, object]) -> dict[str, Any]:
        """The same with JSON both ways."""
        told: dict[str, Any] = json.loads(self.ask("POST", path, json.dumps(body).encode()))
        return told

    def _connection(self) -> http.client.HTTPConnection:
        if getattr(self._own, "pid", None) != os.getpid():  # a forked process must not share its parent's socket
            host = urlsplit(self.address).netloc
            self._own.connection = http.client.HTTPConnection(host, timeout=ANSWER_SECONDS)
            self._own.pid = os.getpid()
        connection: http.client.HTTPConnection = self._own.connection
        return connection


@dataclass
class Job:
    """What this process is to train. Steps count from 0 over all epochs."""

    run: str
    ticket: str
    samples: int
    features: int
    outputs: int
    epochs: int
    global_batch: int
    """Samples of one step, over all ranks; the last step of an epoch has what is left."""
    micro_batches: int
    """In so many pieces each rank computes its part of a step; there is one update."""
    learning_rate: float
    momentum: float
    dtype: str
    seed: int
    """For the order of the samples, and for torch.manual_seed."""
    timeout_seconds: float
    """For collectives."""
    patience_seconds: float
    """A healthy step of any rank takes less."""
    checkpoint_every: int
    """Steps; 0: no checkpoints are asked for."""
    checkpoint_folder: str
    hidden: list[int]
    """Sizes of the hidden layers as this process builds them."""
    extra: list[int] | None
    """Inputs and outputs of one more layer, if this process builds one."""
    parameters: list[tuple[str, tuple[int, ...]]]
    """Names and shapes as the model is to have them, in order."""
    environment: dict[str, str | None]
    """What was put into os.environ, or with None taken out of it."""
    device: str
    """Where model and samples are, on all ranks alike: cuda where the lab trains on GPUs, else cpu."""
    backend: str
    """Of the process group: nccl between GPUs, else gloo."""
    service: Service = field(repr=False)
    identity: dict[str, Any] = field(repr=False)
    next_step: int | None = field(default=None, repr=False)

    def model(self) -> torch.nn.Sequential:
        """The model with the weights it begins with; makes no use of torch's random numbers.

        Each forward pass tells the service. Save its state_dict(); the model itself cannot be pickled.
        """
        dtype, sizes = getattr(torch, self.dtype), [self.features, *self.hidden, self.outputs]
        layers: list[torch.nn.Module] = []
        for before, after in itertools.pairwise(sizes):
            layers += [torch.nn.utils.skip_init(torch.nn.Linear, before, after, dtype=dtype), torch.nn.Tanh()]
        model = torch.nn.Sequential(*layers[:-1])
        if self.extra is not None:
            model[-1].extra = torch.nn.utils.skip_init(torch.nn.Linear, *self.extra, dtype=dtype)
        numbers = torch.frombuffer(bytearray(self.service.ask("GET", "/weights")), dtype=dtype)
        parts = numbers.split([each.numel() for each in model.parameters()])
        with torch.no_grad():
            for parameter, part in zip(model.parameters(), parts, strict=True):
                parameter.copy_(part.view_as(parameter))
        model.register_forward_pre_hook(lambda *_: self._tick())
        return model.to(self.device)

    def batch(
        self, indices: Iterable[int], *, epoch: int, step: int, micro: int = 0
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The samples of these indices, x and y, a row for each; one call for each piece of a step.

        May take long: runs take turns.
        """
        asked = [int(each) for each in indices]
        if self.next_step is None:
            self.next_step = step
        body = json.dumps({"epoch": epoch, "step": step, "micro": micro, "indices": asked}).encode()
        found, dtype = self.service.ask("POST", "/batch", body), getattr(torch, self.dtype)
        if not asked:
            sizes = self.features, self.outputs
            x, y = (torch.empty(0, size, dtype=dtype, device=self.device) for size in sizes)
            return x, y
        numbers = torch.frombuffer(bytearray(found), dtype=dtype).to(self.device)
        x, y = numbers.split([len(asked) * self.features, len(asked) * self.outputs])
        return x.view(-1, self.features), y.view(-1, self.outputs)

    def introduce(self) -> None:
        """Tells the service who is in the default process group, as the group itself says it."""
        members: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(members, {**self.identity, "rank": torch.distributed.get_rank()})
        self.service.post("/introduce", {"members": members, "backend": torch.distributed.get_backend()})

    def report(self, step: int, loss: float, draw: float, model: torch.nn.Module) -> None:
        """Every rank, once a step, after its update.

        Args:
            step: which one is done.
            loss: that of the whole global batch.
            draw: torch.rand(()).item(), made once a step by every rank. Nothing else may draw from torch's generator:
                give a DataLoader one of its own.
            model: with its new weights, which the service asks for now and then.
        """
        told = self.service.post("/report", {"step": step, "loss": float(loss), "draw": float(draw)})
        if told["weights"]:
            self.service.ask("POST", f"/weights?step={step}", self._weights(model))
        self.next_step = step + 1

    def finish(self, model: torch.nn.Module) -> None:
        """Every rank, after the last step."""
        self.service.ask("POST", "/finish", self._weights(model))

    def _tick(self) -> None:
        # Not the step of the last batch: a loader may be ahead of the model.
        self.service.post("/tick", {"step": self.next_step or 0})

    def _weights(self, model: torch.nn.Module) -> bytes:
        state = getattr(model, "module", model).state_dict()  # DistributedDataParallel keeps the model in `module`
        if missing := [name for name, _ in self.parameters if name not in state]:
            raise LabError(
                f"the model has no parameter {', '.join(missing)}; give the one of job.model(), or its wrapper"
            )
        parts = (state[name].detach().cpu().contiguous().numpy() for name, _ in self.parameters)
        return b"".join(part.tobytes() for part in parts)


def join(environ: MutableMapping[str, str] = os.environ) -> Job:
    """Registers this process with the service and returns its job; waits for the run to be there.

    Raises:
        LabError: the run is not there after JOIN_SECONDS, or the service refuses this process.
    """
    names = ("DDP_RUN", "DDP_SERVICE", "POD_UID", "NODE_NAME")
    if missing := [name for name in names if name not in environ]:
        raise LabError(
            f"the environment has no {', '.join(missing)}; run this in a pod of the lab's chart, which sets them"
        )
    run, address, uid, node = (environ[name] for name in names)
    pid = os.getpid()
    rank, world = environ.get("RANK", "0"), int(environ.get("WORLD_SIZE", "1"))
    attempt = environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    headers = {"X-Run": run, "X-Uid": uid, "X-Rank": rank, "X-Attempt": attempt}
    service = Service(address, headers)
    told = _when_there(service, {"node": node, "pid": pid, "world": world})
    for name, value in told["environment"].items():
        if value is None:
            environ.pop(name, None)
        else:
            environ[name] = value
    told["global_batch"] = told.pop("batch")
    told["parameters"] = [(name, tuple(shape)) for name, shape in told["parameters"]]
    identity = {"uid": uid, "node": node, "pid": pid, "ticket": told["ticket"]}
    return Job(**told, service=service, identity=identity)


def diagnose(fault: str, rank: int, said: str) -> None:
    """Says what is wrong and with which rank: the container's last word, which Kubernetes shows in the pod's status.

    Args:
        fault: one of FAULTS.
        rank: the rank that has it.
        said: how it showed; what is longer than SAID characters is cut.
    """
    if fault not in FAULTS:
        raise LabError(f"{fault!r} is no fault that is known here; say one of {', '.join(FAULTS)}")
    text = json.dumps({"fault": fault, "rank": int(rank), "said": str(said)[:SAID]}, ensure_ascii=False)
    text = text.encode("utf-8", "replace").decode()  # words of a broken program may be broken
    DIAGNOSIS.write_text(text, encoding="utf-8")
    print(text, flush=True)


def _when_there(service: Service, body: Mapping[str, object]) -> dict[str, Any]:
    end = time.monotonic() + JOIN_SECONDS
    while True:
        try:
            return service.post("/join", body)
        except LabError as error:
            if error.status not in (None, http.client.NOT_FOUND) or time.monotonic() > end:
                raise
            time.sleep(AGAIN_SECONDS)


def _sentence(answer: bytes) -> str:
    """What the service says of a request that it does not serve."""
    try:
        return str(json.loads(answer)["error"])
    except (ValueError, KeyError, TypeError):
        return repr(answer[:200])
