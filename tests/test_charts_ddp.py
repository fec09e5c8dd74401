"""The charts ddp and ddp-data: a run whose pods find each other, and the service that they get their data from."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from clusters.process import CommandFailed
from tests.patience import PATIENCE
from tests.test_charts import CHARTS, render

NASTY = "\n  x = 1\t# é, {{ .Values.workers }}, 'a' \"b\" \\\\ \n---\n\n    \nlast line, with a blank \n\n"
WRITTEN = {"train.py": NASTY, "none.txt": "", "line.txt": "no end", "carriage.txt": "a\r\nb\r\n"}


def trainer(helm: Path, feature: str) -> dict[str, Any]:
    """The Job that the ddp chart renders for a feature."""
    options = ("--values", str(CHARTS / "ddp" / feature)) if feature else ()
    (found,) = (one for one in render(helm, "ddp", *options) if one["kind"] == "Job")
    return dict(found["spec"])


def variables(container: dict[str, Any]) -> dict[str, str]:
    return {item["name"]: item.get("value") or item["valueFrom"]["fieldRef"]["fieldPath"] for item in container["env"]}


def test_ddp_pods_meet_at_the_first_by_its_name(helm: Path) -> None:
    job = trainer(helm, "")
    pod = job["template"]["spec"]
    (service,) = (one["spec"] for one in render(helm, "ddp") if one["kind"] == "Service")

    assert (job["completionMode"], job["completions"], job["parallelism"]) == ("Indexed", 2, 2)
    assert pod["containers"][0]["image"] == "pytorch/pytorch:2.13.0-cuda13.0-cudnn9-runtime"
    assert pod["containers"][0]["command"] == [
        "torchrun",
        "--nnodes=2",
        "--nproc-per-node=1",
        "--rdzv-backend=c10d",
        "--rdzv-endpoint=release-0.release:29400",
        "--rdzv-id=release",
        "--max-restarts=3",
        "/lab/train.py",
    ]
    assert (pod["subdomain"], service["clusterIP"], service["publishNotReadyAddresses"]) == ("release", "None", True)
    assert service["selector"].items() <= job["template"]["metadata"]["labels"].items()
    assert [(item["key"], item["tolerationSeconds"]) for item in pod["tolerations"]] == [
        ("node.kubernetes.io/not-ready", 30),
        ("node.kubernetes.io/unreachable", 30),
    ]


def test_ddp_tells_torchrun_nothing_where_values_say_nothing(helm: Path) -> None:
    pod = trainer(helm, "ci/alone-values.yaml")["template"]["spec"]

    assert pod["containers"][0]["command"] == ["torchrun", "/lab/train.py"]
    assert variables(pod["containers"][0]) == {
        "DDP_RUN": "release",
        "DDP_SERVICE": "http://data:8080",
        "NODE_NAME": "spec.nodeName",
        "POD_UID": "metadata.uid",
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        "PYTHONPATH": "/lab",
        "PYTHONUNBUFFERED": "1",
    }
    assert not {"initContainers", "tolerations"} & pod.keys()


def test_ddp_passes_what_is_said_about_processes_and_failures(helm: Path) -> None:
    job = trainer(helm, "ci/elastic-values.yaml")
    pod = job["template"]["spec"]

    assert pod["containers"][0]["command"][1:] == [
        "--nnodes=2:4",
        "--nproc-per-node=2",
        "--rdzv-backend=c10d",
        "--rdzv-endpoint=release-0.release:29400",
        "--rdzv-id=release",
        "--rdzv-conf=join_timeout=60,keep_alive_interval=1,last_call_timeout=1",
        "--max-restarts=100",
        "--monitor-interval=0.5",
        "/lab/train.py",
    ]
    assert (job["backoffLimit"], job["podReplacementPolicy"], job["activeDeadlineSeconds"]) == (3, "Failed", 3600)
    assert (pod["restartPolicy"], pod["terminationGracePeriodSeconds"]) == ("OnFailure", 5)
    assert [item["tolerationSeconds"] for item in pod["tolerations"]] == [0, 0]
    assert variables(pod["containers"][0])["OMP_NUM_THREADS"] == "3"


def test_ddp_pods_spread_over_nodes_with_a_gpu_each_and_no_rights(helm: Path) -> None:
    pod = trainer(helm, "ci/gpu-values.yaml")["template"]["spec"]

    assert [(one["topologyKey"], one["maxSkew"]) for one in pod["topologySpreadConstraints"]] == [
        ("kubernetes.io/hostname", 1)
    ]
    assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)
    assert pod["containers"][0]["resources"]["limits"] == {"nvidia.com/gpu": 1}
    for container in (*pod["initContainers"], *pod["containers"]):
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def test_ddp_keeps_checkpoints_where_every_pod_sees_them_and_tells_a_diagnosis(helm: Path) -> None:
    (claim,) = (one for one in render(helm, "ddp") if one["kind"] == "PersistentVolumeClaim")
    (container,) = trainer(helm, "")["template"]["spec"]["containers"]

    assert claim["spec"] == {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
    assert (container["name"], container["terminationMessagePath"]) == ("trainer", "/dev/diagnosis.json")
    assert container["volumeMounts"] == [
        {"name": "files", "mountPath": "/lab", "readOnly": True},
        {"name": "checkpoints", "mountPath": "/checkpoints"},
    ]


@pytest.mark.parametrize("chart", ["ddp", "ddp-data"])
def test_files_arrive_as_they_were_written(helm: Path, tmp_path: Path, chart: str) -> None:
    file = tmp_path / "values.yaml"
    token = {"controlToken": "0123456789abcdef"} if chart == "ddp-data" else {}
    file.write_text(yaml.safe_dump({"files": WRITTEN, **token}))

    (config,) = (one for one in render(helm, chart, "--values", str(file)) if one["kind"] == "ConfigMap")

    assert config["data"] == WRITTEN


def ask(index: str, own: str, answers: list[str], folder: Path, script: str) -> list[str]:
    """Runs what waits for the first pod's name, and returns which names were asked for."""
    (folder / "answers").write_text("".join(f"{answer}      STREAM x\n" for answer in answers))
    (folder / "getent").write_text(f'#!/bin/sh\ncd {folder}; echo $2 >>asked; sed -n "$(wc -l <asked)p" answers\n')
    (folder / "getent").chmod(0o755)
    path = f"{folder}:{os.environ['PATH']}"
    subprocess.run(
        ["sh", "-c", script],
        env={"JOB_COMPLETION_INDEX": index, "POD_IP": own, "PATH": path},
        check=True,
        timeout=PATIENCE,
    )
    asked = folder / "asked"
    return asked.read_text().split() if asked.exists() else []


@pytest.mark.slow
def test_ddp_starts_the_first_pod_once_its_name_leads_to_it(helm: Path, tmp_path: Path) -> None:
    (waits,) = trainer(helm, "")["template"]["spec"]["initContainers"]
    (shell, option, script) = waits["command"]
    addresses = ["110.0.0.1", "10.0.0.11", "10.0.0.1"]

    assert (shell, option) == ("sh", "-c")
    assert waits["env"] == [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]
    assert ask("1", "10.0.0.2", [], tmp_path, script) == []
    assert ask("0", "10.0.0.1", addresses, tmp_path, script) == ["release-0.release"] * 3


def test_the_data_service_runs_its_file_with_the_token_from_a_secret(helm: Path) -> None:
    rendered = render(helm, "ddp-data", "--values", str(CHARTS / "ddp-data/ci/service-values.yaml"))
    found = {one["kind"]: one for one in rendered}
    (container,) = found["Deployment"]["spec"]["template"]["spec"]["containers"]

    assert container["command"] == ["python3", "/lab/data_service.py"]
    assert found["Secret"]["stringData"] == {"token": "0123456789abcdef"}
    assert container["env"][-1] == {
        "name": "CONTROL_TOKEN",
        "valueFrom": {"secretKeyRef": {"name": "release", "key": "token"}},
    }
    assert container["readinessProbe"]["httpGet"] == {"path": "/control/health", "port": "http"}
    assert container["ports"] == [{"name": "http", "containerPort": 8080}]
    assert found["Service"]["spec"]["ports"] == [{"name": "http", "port": 8080, "targetPort": "http"}]
    assert found["Deployment"]["spec"]["replicas"] == 1


def test_the_data_service_is_not_installed_without_a_token(helm: Path) -> None:
    with pytest.raises(CommandFailed) as refused:
        render(helm, "ddp-data")
    assert "controlToken must be given: without one, every pod could control the service\n" in refused.value.output
