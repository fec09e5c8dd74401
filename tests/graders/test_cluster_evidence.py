"""Evidence of a cluster from an API server that is slow to say things, forgets, breaks off, lies, or has gone."""

import base64
import gzip
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes
import msgspec
import pytest

from clusters.wait import until
from graders.cluster_evidence import GONE, LOG_BYTES, LOGS, ClusterEvidence
from graders.pod_watch import PodWatch
from graders.record import Record
from tests.graders.api_server import END, Answer, Api
from tests.patience import PATIENCE


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Record]:
    found = Record(tmp_path / "run")
    yield found
    found.seal()


def pod(name: str, version: int, **fields: Any) -> dict[str, Any]:
    metadata = {"name": name, "uid": f"uid-{name}", "resourceVersion": str(version), **fields.pop("metadata", {})}
    status = {"name": "main", "containerID": "x", "restartCount": 0, **fields}
    return {
        "metadata": metadata,
        "spec": {"nodeName": "gpu-1", "containers": [{"name": "main", "image": "busybox"}]},
        "status": {"phase": "Running", "containerStatuses": [status]},
    }


def change(kind: str, found: dict[str, Any]) -> bytes:
    return json.dumps({"type": kind, "object": found}).encode() + b"\n"


def listed(*items: dict[str, Any]) -> Answer:
    return 200, json.dumps({"items": items}).encode()


PODS, EVENTS, SECRETS = (f"/api/v1/namespaces/ns/{kind}" for kind in ("pods", "events", "secrets"))
NODES = "/api/v1/nodes"


def whole(api: Api) -> None:
    """All that is asked for, with nothing in it."""
    api.answers.update({path: listed() for path in (PODS, EVENTS, SECRETS, NODES)})


def facts(record: Record, kind: str) -> list[dict[str, Any]]:
    """The facts of a kind, without their times."""
    lines = map(msgspec.json.decode, (record.folder / "run.jsonl").read_bytes().splitlines())
    found = [line for line in lines if line.get("kind") == kind]
    return [{name: value for name, value in line.items() if name != "at"} for line in found]


def missing(record: Record) -> dict[str, str]:
    (found,) = facts(record, "collected")
    return dict(found["missing"])


class Changes:
    def __init__(self) -> None:
        self.seen: list[tuple[float, str, str]] = []

    def look(self, moment: float, kind: str, found: dict[str, Any]) -> None:
        self.seen.append((moment, kind, found["metadata"]["name"]))

    def wait(self, count: int) -> None:
        until(lambda: len(self.seen), lambda length: length >= count, what="changes", seconds=PATIENCE, interval=0.01)


def watched(core: Any, changes: Changes, count: int) -> PodWatch:
    watch = PodWatch(core, "ns", changes.look, clock=lambda: 7.0, pause=0.01)
    watch.start()
    changes.wait(count)
    watch.stop()
    return watch


def test_changes_are_told_however_they_are_cut_into_pieces(api: Api, core: Any) -> None:
    text = change("ADDED", pod("a", 1)) + change("MODIFIED", pod("a", 2)) + change("DELETED", pod("a", 3))
    api.watches = [(200, [text[:50], text[50:400], text[400:]])]
    changes = Changes()
    assert watched(core, changes, 3).trouble is None
    assert changes.seen == [(7.0, "ADDED", "a"), (7.0, "MODIFIED", "a"), (7.0, "DELETED", "a")]


def test_a_watch_that_ends_goes_on_where_it_was(api: Api, core: Any) -> None:
    bookmark = change("BOOKMARK", {"metadata": {"resourceVersion": "9"}})
    api.watches = [
        (200, [change("ADDED", pod("a", 1)), bookmark, END]),
        (200, [change("ADDED", pod("b", 10))]),
    ]
    changes = Changes()
    assert watched(core, changes, 2).trouble is None
    assert [query.get("resourceVersion") for query in api.asked] == [None, ["9"]]
    assert [name for _, _, name in changes.seen] == ["a", "b"]


def test_a_server_that_forgot_the_version_is_asked_anew_and_the_gap_is_said(api: Api, core: Any) -> None:
    api.watches = [
        (200, [change("ADDED", pod("a", 5)), END]),
        (200, [change("ERROR", {"message": "too old resource version: 5", "code": 410}), END]),
        (500, b"{}"),
        (200, [b"no json\n", END]),
        (200, [change("ADDED", pod("a", 6))]),
    ]
    changes = Changes()
    watch = watched(core, changes, 2)
    assert watch.trouble is not None
    assert watch.trouble.startswith("DecodeError: JSON is malformed")
    assert [query.get("resourceVersion") for query in api.asked] == [None, ["5"], None, None, None]


def test_a_watch_stops_though_nothing_comes(api: Api, core: Any) -> None:
    api.watches = [(200, [])]
    watch = PodWatch(core, "ns", Changes().look)
    watch.start()
    until(lambda: api.asked, bool, what="the watch to begin", seconds=PATIENCE, interval=0.01)
    watch.stop()
    assert not any(thread.name == "pod-watch" for thread in threading.enumerate())


def test_a_log_is_kept_from_its_end_and_with_its_length(api: Api, core: Any, record: Record) -> None:
    whole(api)
    text = b"".join(b"line %06d\n" % number for number in range(60_000))
    api.answers[PODS] = listed(pod("a", 1, restartCount=1), {"metadata": {"name": "b"}, "status": {}})
    api.answers[f"{PODS}/a/log?container=main"] = (200, text)
    api.answers[f"{PODS}/a/log?container=main&previous"] = (200, b"HF_TOKEN=hunter2\n")
    with ClusterEvidence(core, "ns", record):
        pass
    kept = (record.folder / "evidence/cluster/logs/a/main.log").read_bytes()
    assert len(text) > 2 * LOG_BYTES
    assert LOG_BYTES - 12 <= len(kept) <= LOG_BYTES
    assert text.endswith(kept)
    assert kept.startswith(b"line ")
    assert (record.folder / "evidence/cluster/logs/a/main.previous.log").read_bytes() == b"HF_TOKEN=[redacted]\n"
    assert facts(record, "log")[0] == {
        "kind": "log",
        "name": "evidence/cluster/logs/a/main.log",
        "bytes": len(text),
        "kept": len(kept),
        "image": "busybox",
        "image_id": None,
    }
    assert missing(record) == {}


@pytest.mark.parametrize("said", GONE)
def test_the_log_of_a_pod_that_leaves_is_kept_as_it_was_at_its_last_change(
    api: Api, core: Any, record: Record, said: bytes
) -> None:
    whole(api)
    leaving = {"metadata": {"deletionTimestamp": "2026-09-01T12:00:00Z"}}
    api.watches = [
        (200, [change("ADDED", pod("a", 1)), *(change("MODIFIED", pod("a", n, **leaving)) for n in (2, 3, 4))])
    ]
    gone = (200, said + b"x")
    api.in_turn[f"{PODS}/a/log?container=main"] = [(200, b"last\n"), (200, b"last words\n"), gone]
    log = record.folder / "evidence/cluster/logs/a/main.log"
    with ClusterEvidence(core, "ns", record) as evidence:
        until(lambda: api.in_turn, lambda left: not left, what="the pod to leave", seconds=PATIENCE, interval=0.01)
        until(lambda: evidence.leaving, bool, what="its log", seconds=PATIENCE, interval=0.01)
        api.answers[PODS] = listed(pod("a", 9, metadata={"uid": "another"}))
        api.answers[f"{PODS}/a/log?container=main"] = (200, b"of the pod that came after it\n")
    assert log.read_bytes() == b"of the pod that came after it\n"
    assert log.with_name("main.uid-a.log").read_bytes() == b"last words\n"


@pytest.mark.parametrize("notice", [[], ["MODIFIED"]], ids=["without notice", "faster than it is read"])
def test_the_log_of_a_pod_that_was_gone_at_once_is_missing(
    api: Api, core: Any, record: Record, notice: list[str]
) -> None:
    whole(api)
    leaving = {"metadata": {"deletionTimestamp": "2026-09-01T12:00:00Z"}}
    going = [change(kind, pod("a", n, **leaving)) for n, kind in enumerate([*notice, "DELETED"], 2)]
    api.watches = [(200, [change("ADDED", pod("a", 1)), *going, change("ADDED", pod("b", 9))])]
    with ClusterEvidence(core, "ns", record):
        lines = record.folder / "evidence/cluster/pods.jsonl"
        until(lambda: lines.read_bytes(), lambda text: b'"b"' in text, what="b", seconds=PATIENCE, interval=0.01)
    assert missing(record) == {"the log of main in a": "its pod was gone before it could be read"}


def test_what_cannot_be_had_is_said_to_be_missing(api: Api, core: Any, record: Record) -> None:
    packed = base64.b64encode(base64.b64encode(b"no gzip")).decode()
    api.answers = {
        PODS: listed(pod("a", 1)),
        EVENTS: (500, b"{}"),
        SECRETS: listed({"data": {"release": packed}}),
        NODES: (200, b'{"items": [{}]}'),
    }
    with ClusterEvidence(core, "ns", record):
        pass
    assert missing(record) == {
        "releases": "RunUnreadable: release.gz is damaged: Error -3 while decompressing data: incorrect header check",
        "events": "the API server answers 500 Internal Server Error",
        "the log of main in a": "the API server answers 404 Not Found",
        "nodes": "KeyError: 'status'",
    }


def test_more_logs_than_are_kept_are_said(api: Api, core: Any, record: Record) -> None:
    whole(api)
    api.answers[PODS] = listed(*(pod(f"p{number}", number + 1) for number in range(LOGS + 2)))
    api.answers |= {f"{PODS}/p{number}/log?container=main": (200, b"x\n") for number in range(LOGS + 2)}
    with ClusterEvidence(core, "ns", record):
        pass
    assert len(list((record.folder / "evidence/cluster/logs").iterdir())) == LOGS
    assert missing(record) == {"some logs": f"there are {LOGS + 2}, and {LOGS} of each kind are kept"}


def test_a_cluster_that_takes_too_long_leaves_the_rest_missing(api: Api, core: Any, record: Record) -> None:
    whole(api)
    clock = iter([0.0, 1.0, 50.0, 50.0, 50.0, 51.5])
    with ClusterEvidence(core, "ns", record, clock=lambda: next(clock)):
        pass
    assert missing(record) == dict.fromkeys(("events", "logs", "nodes"), "the others took 40 s")
    assert facts(record, "collected")[0]["seconds"] == 51.5


def test_logs_that_take_too_long_leave_the_rest_of_them_missing(api: Api, core: Any, record: Record) -> None:
    whole(api)
    api.answers[PODS] = listed(*(pod(name, number + 1) for number, name in enumerate("abc")))
    api.answers |= {f"{PODS}/{name}/log?container=main": (200, b"x\n") for name in "abc"}
    clock = iter([0.0, 1.0, 2.0, 3.0, 4.0, 50.0, 51.0, 52.0, 53.0])
    with ClusterEvidence(core, "ns", record, clock=lambda: next(clock)):
        pass
    late = {f"the log of main in {name}": "all before it took 40 s" for name in "bc"}
    assert missing(record) == {**late, "nodes": "the others took 40 s"}


def test_a_cluster_that_has_gone_is_no_error_of_a_check(record: Record) -> None:
    settings = kubernetes.client.Configuration(host="http://127.0.0.1:9")
    settings.proxy, settings.retries = None, False
    with (
        kubernetes.client.ApiClient(settings) as client,
        ClusterEvidence(kubernetes.client.CoreV1Api(client), "ns", record),
    ):
        pass
    assert {"releases", "events", "logs", "nodes"} <= missing(record).keys()
    assert all("Connection refused" in why for why in missing(record).values())


def test_releases_are_kept_with_their_values_and_manifest(api: Api, core: Any, record: Record) -> None:
    whole(api)
    release = {
        "name": "mine",
        "version": 2,
        "config": {"apiKey": "s3cret-key", "replicas": 1},
        "manifest": "kind: Secret\ndata: {a: eHl6}\n---\nkind: Pod\ncommand: [serve, --api-key, s3cret-key]\n",
        "chart": {"metadata": {"name": "vllm", "version": "0.1.0"}},
        "info": {"status": "superseded"},
    }
    packed = base64.b64encode(base64.b64encode(gzip.compress(json.dumps(release).encode()))).decode()
    api.answers[SECRETS] = listed({"data": {"release": packed}})
    event = {
        "metadata": {"creationTimestamp": "2026-09-01T12:00:00Z"},
        "involvedObject": {"kind": "Pod", "name": "a"},
        "reason": "Failed",
        "message": "cannot start with s3cret-key",
    }
    api.answers[EVENTS] = listed(event)
    with ClusterEvidence(core, "ns", record):
        pass
    folder = record.folder / "evidence/cluster"
    assert (folder / "releases/mine.v2.values.yaml").read_text() == 'apiKey: "[redacted]"\nreplicas: 1\n'
    assert (folder / "releases/mine.v2.manifest.yaml").read_text() == (
        'kind: Secret\ndata: {a: "[redacted]"}\n---\nkind: Pod\ncommand: [serve, --api-key, "[redacted]"]\n'
    )
    assert msgspec.json.decode((folder / "events.jsonl").read_bytes().splitlines()[1]) == {
        "first": "2026-09-01T12:00:00Z",
        "last": "2026-09-01T12:00:00Z",
        "count": 1,
        "type": None,
        "reason": "Failed",
        "kind": "Pod",
        "name": "a",
        "source": None,
        "node": None,
        "message": "cannot start with [redacted]",
    }
