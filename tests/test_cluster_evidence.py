"""What a real cluster says of a run, as it is kept: pods, logs, events, releases, nodes, and none of the secrets."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes
import msgspec
import pytest
import yaml

from clusters.embedded.backend import EmbeddedCluster
from clusters.helm import Helm
from clusters.wait import until
from graders.cluster_evidence import ClusterEvidence
from graders.record import Record
from tests.conftest import Kubectl
from tests.patience import PATIENCE

pytestmark = pytest.mark.cluster

CHART = {
    "Chart.yaml": "apiVersion: v2\nname: tiny\nversion: 1.2.3\n",
    "values.yaml": f"apiKey: none\ngreeting: hello\npatience: {int(PATIENCE)}\n",
    "templates/all.yaml": """\
apiVersion: v1
kind: Secret
metadata: {name: plain}
stringData: {anything: {{ .Values.apiKey | quote }}}
---
apiVersion: v1
kind: Pod
metadata: {name: talker}
spec:
  terminationGracePeriodSeconds: {{ .Values.patience }}
  containers:
  - name: main
    image: busybox
    command: [sh, -c, 'trap "echo the last words; until test -e /tmp/go; do sleep 0.1; done; exit 0" TERM;
      echo "{{ .Values.greeting }}, my key is $KEY"; echo max_tokens: 64; while true; do sleep 0.1; done']
    env: [{name: KEY, value: {{ .Values.apiKey | quote }}}]
---
apiVersion: v1
kind: Pod
metadata: {name: crasher}
spec:
  volumes: [{name: data, emptyDir: {}}]
  containers:
  - name: main
    image: busybox
    command: [sh, -c, 'test -e /data/was && sleep 600; touch /data/was; echo going down; exit 3']
    volumeMounts: [{name: data, mountPath: /data}]
""",
}


@pytest.fixture
def core(embedded: EmbeddedCluster) -> Iterator[Any]:
    settings = kubernetes.client.Configuration()
    kubernetes.config.load_kube_config(str(embedded.kubeconfig), client_configuration=settings)
    with kubernetes.client.ApiClient(settings) as client:
        yield kubernetes.client.CoreV1Api(client)


def lines(path: Path) -> list[Any]:
    return [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]


@pytest.fixture
def record(embedded: EmbeddedCluster, kubectl: Kubectl, core: Any, tmp_path: Path) -> Record:
    """Of a run in which one pod was told to go and another crashed."""
    for name, text in CHART.items():
        (tmp_path / "tiny" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tiny" / name).write_text(text)
    kubectl("create", "namespace", "evidence")
    record = Record(tmp_path / "run")
    with ClusterEvidence(core, "evidence", record) as evidence:
        Helm(embedded.programs / "helm", embedded.kubeconfig).install(
            "mine", tmp_path / "tiny", {"apiKey": "s3cret-key"}, "evidence"
        )
        until(
            lambda: kubectl.get("pods", "-n", "evidence")[1]["status"]["phase"],
            lambda phase: phase == "Running",
            what="the talker to run",
            seconds=PATIENCE,
            interval=0.1,
        )
        until(
            lambda: kubectl("logs", "-n", "evidence", "talker"),
            lambda log: "max_tokens" in log,
            what="the talker to talk",
            seconds=PATIENCE,
            interval=0.1,
        )
        kubectl("delete", "pod", "-n", "evidence", "talker", "--wait=false")
        until(
            # Every change of a leaving pod is an occasion to read its log.
            lambda: (
                kubectl("annotate", "pod", "-n", "evidence", "talker", f"moment={time.time()}", "--overwrite")
                and [log.end for log in list(evidence.leaving.values())]
            ),
            lambda ends: any(b"the last words" in end for end in ends),
            what="the talker's last words",
            seconds=PATIENCE,
            interval=0.1,
        )
        kubectl("exec", "-n", "evidence", "talker", "--", "touch", "/tmp/go")
        kubectl("wait", "--for=delete", "pod/talker", "-n", "evidence", f"--timeout={PATIENCE:g}s")
        until(
            lambda: kubectl.get("pod", "-n", "evidence", "crasher")["status"]["containerStatuses"][0],
            lambda status: status["restartCount"] and status["ready"],
            what="the crasher to run again",
            seconds=PATIENCE,
            interval=0.1,
        )
    record.seal()
    kubectl("delete", "namespace", "evidence", "--wait=false")
    return record


def test_a_run_keeps_what_its_cluster_says(record: Record) -> None:
    folder = record.folder / "evidence/cluster"
    assert (folder / "logs/talker/main.log").read_text() == (
        "hello, my key is [redacted]\nmax_tokens: 64\nthe last words\n"
    )
    assert (folder / "logs/crasher/main.previous.log").read_text() == "going down\n"
    assert yaml.safe_load((folder / "releases/mine.v1.values.yaml").read_text()) == {"apiKey": "[redacted]"}
    secret, *_ = yaml.safe_load_all((folder / "releases/mine.v1.manifest.yaml").read_text())
    assert secret["stringData"] == {"anything": "[redacted]"}
    assert "s3cret-key" not in "".join(path.read_text() for path in record.folder.rglob("*") if path.is_file())
    header, *changes = lines(folder / "pods.jsonl")
    assert header == {"format": "gpulab/record/v1"}
    talker = [change for change in changes if change["name"] == "talker"]
    assert (talker[0]["type"], talker[-1]["type"]) == ("ADDED", "DELETED")
    assert {"Pending", "Running", "Succeeded"} <= {change["status"]["phase"] for change in talker}
    assert [change["at"] for change in changes] == sorted(change["at"] for change in changes)
    events = lines(folder / "events.jsonl")[1:]
    assert {"Scheduled", "Started", "Killing"} <= {event["reason"] for event in events if event["name"] == "talker"}
    nodes = msgspec.json.decode((folder / "nodes.json").read_bytes())["nodes"]
    assert sorted(node["name"] for node in nodes) == ["gpu-1", "gpu-2", "system"]
    assert all(node["versions"]["kubeletVersion"].startswith("v1.") for node in nodes)
    facts = {fact.get("name", fact.get("kind")): fact for fact in lines(record.folder / "run.jsonl")}
    del facts["mine"]["at"]
    assert facts["mine"] == {
        "kind": "release",
        "name": "mine",
        "revision": 1,
        "chart": "tiny",
        "chart_version": "1.2.3",
        "status": "deployed",
    }
    assert facts["evidence/cluster/logs/talker/main.log"]["image"] == "busybox"
    assert facts["collected"]["missing"] == {}
    assert facts["collected"]["seconds"] < 10
