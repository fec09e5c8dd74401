"""The grader's side of the data service: runs are made, let go on, and read through the API server's Service proxy.

Place: `bench` holds one. Limits: what only the holder of the token may do; pods talk to the service by themselves.
"""

import json
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

import kubernetes
import msgspec
import urllib3.exceptions

from clusters.wait import WaitTimeout, until
from ddp_lab.events import Story
from ddp_lab.runs import RunSpec
from graders.errors import InfrastructureError

SERVICE = "data"
"""Name of its release, its Service and its container."""
PORT = 8080


class Control:
    """The data service of one namespace; every method raises InfrastructureError when it does not answer as it should.

    Args:
        client: the official Kubernetes client.
        namespace: of the run.
        token: what the service asks for.
    """

    def __init__(self, client: kubernetes.client.ApiClient, namespace: str, token: str) -> None:
        self._client, self._token = client, token
        self._path = f"/api/v1/namespaces/{namespace}/services/{SERVICE}:{PORT}/proxy"
        self._seen: dict[str, list[Any]] = {}

    def wait(self, seconds: float) -> None:
        """Returns once the service answers."""
        try:
            until(self._healthy, bool, what="the data service to answer", seconds=seconds, interval=0.2)
        except WaitTimeout as error:
            raise InfrastructureError(f"the lab's data service does not come up: {error}") from error

    def create(self, run: str, spec: RunSpec) -> None:
        """Makes a run, which pods of that name may then join."""
        self._ask("PUT", f"/control/runs/{run}", body=spec.encoded())

    def turn(self, run: str, until_step: int) -> float:
        """Lets batches of steps before that one be handed out; when, in the service's monotonic seconds."""
        return float(json.loads(self._ask("POST", f"/control/runs/{run}/turn", body={"until": until_step}))["t"])

    def story(self, run: str) -> Story:
        """Everything that the service saw of a run so far."""
        seen = self._seen.setdefault(run, [])
        while new := json.loads(self._events(run, len(seen)))["events"]:
            seen += new
        try:
            return Story.read(seen)
        except msgspec.ValidationError as error:
            raise InfrastructureError(f"the data service told of {run} what nobody can read: {error}") from error

    def now(self, run: str) -> float:
        """The service's monotonic seconds."""
        return float(json.loads(self._events(run, len(self._seen.get(run, []))))["now"])

    def weights(self, run: str, rank: int, step: int | str) -> bytes:
        """What a rank handed in after a step, or at the end ("finish"): parameters in order, little-endian.

        Nothing where it handed in none, or more than the service keeps, as when each rank has weights of its own.
        """
        return self._ask("GET", f"/control/runs/{run}/weights", query={"rank": rank, "step": step}, may_lack=True)

    def follow(
        self,
        run: str,
        done: Callable[[Story], bool],
        *,
        seconds: float,
        every: float,
        look: Callable[[Story], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> tuple[Story, bool]:
        """Reads the run until its story is `done` or time is up, and says which.

        Args:
            run: which one.
            done: whether its story is what is waited for.
            seconds: how long at most.
            every: seconds between two reads, each of which takes a few milliseconds of the machine.
            look: called between two reads, with what was read.
            clock: monotonic seconds.
        """
        end = clock() + seconds
        while True:
            story = self.story(run)
            if done(story):
                return story, True
            if clock() >= end:
                return story, False
            look(story)
            time.sleep(every)

    def _events(self, run: str, since: int) -> bytes:
        return self._ask("GET", f"/control/runs/{run}/events", query={"since": since})

    def _healthy(self) -> bool:
        try:
            self._ask("GET", "/control/health")
        except InfrastructureError:
            return False
        return True

    def _ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: object = None,
        may_lack: bool = False,
    ) -> bytes:
        headers = {"X-Token": self._token, "Content-Type": "application/json", "Accept": "*/*"}
        asked = self._client.param_serialize(
            method,
            self._path + path,
            query_params=list((query or {}).items()),
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
        )
        try:
            answer = self._client.call_api(*asked, _request_timeout=30)
            content = bytes(answer.read())
        except urllib3.exceptions.HTTPError as error:
            raise InfrastructureError(f"the data service does not answer {method} {path}: {error}") from error
        if may_lack and answer.status == HTTPStatus.NOT_FOUND:
            return b""
        if answer.status != HTTPStatus.OK:
            said = content.decode(errors="replace").strip()
            raise InfrastructureError(f"the data service refused {method} {path}: HTTP {answer.status}: {said}")
        return content
