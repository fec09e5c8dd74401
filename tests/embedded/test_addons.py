"""metrics-server and the volume provisioner: what they are started with, and that they serve a real cluster."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from clusters.embedded import addons, controlplane, network
from clusters.embedded.pki import Pair

PAIR = Pair(Path("/pki/x.crt"), Path("/pki/x.key"))


def objects(kind: str) -> dict[str, Any]:
    found = yaml.safe_load_all(controlplane.BOOTSTRAP.read_text())
    return {each["metadata"]["name"]: each for each in found if each["kind"] == kind}


def test_metrics_server_listens_where_its_service_leads() -> None:
    argv = addons.metrics_argv("metrics-server", Path("/pki/m.conf"), Path("/pki/ca.crt"), PAIR)
    assert f"--bind-address={network.API}" in argv
    assert f"--secure-port={network.METRICS_PORT}" in argv
    assert "--kubelet-insecure-tls" not in argv
    endpoints = objects("EndpointSlice")["metrics-server"]
    assert endpoints["endpoints"][0]["addresses"] == [network.API]
    assert endpoints["ports"][0]["port"] == network.METRICS_PORT
    assert objects("Service")["metrics-server"]["spec"]["ports"][0]["targetPort"] == network.METRICS_PORT


def test_the_metrics_api_is_checked_by_its_certificate(tmp_path: Path) -> None:
    authority = tmp_path / "ca.crt"
    authority.write_text("certificate")
    service = addons.metrics_api(authority)
    assert service["spec"]["caBundle"] == "Y2VydGlmaWNhdGU="
    assert "insecureSkipTLSVerify" not in service["spec"]
    assert json.loads(json.dumps(service)) == service


def test_one_storage_class_is_the_default() -> None:
    (standard,) = objects("StorageClass").values()
    assert standard["metadata"]["annotations"] == {"storageclass.kubernetes.io/is-default-class": "true"}
    source = Path(controlplane.__file__).parent / "kubernetes" / "volume-provisioner" / "main.go"
    assert f'provisionerName = "{standard["provisioner"]}"' in source.read_text()


CLAIM = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "data"},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
}


def pod(name: str, node: str, script: str) -> dict[str, Any]:
    mount = {"name": "data", "mountPath": "/data"}
    container = {"name": "c", "image": "busybox", "command": ["sh", "-c", script], "volumeMounts": [mount]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "nodeSelector": {"kubernetes.io/hostname": node},
            "tolerations": [{"operator": "Exists"}],
            "containers": [container],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
        },
    }


@pytest.mark.cluster
def test_a_claim_keeps_its_data_across_pods_and_nodes_until_it_is_deleted(kubectl: Any) -> None:
    kubectl("create", "-f", "-", stdin=json.dumps(CLAIM))
    kubectl("create", "-f", "-", stdin=json.dumps(pod("writer", "system", "echo kept > /data/file")))
    kubectl.phase("writer", "Succeeded")
    kubectl("create", "-f", "-", stdin=json.dumps(pod("reader", "gpu-1", "cat /data/file")))
    kubectl.phase("reader", "Succeeded")
    assert kubectl("logs", "reader") == "kept\n"
    (volume,) = kubectl.get("pv")
    folder = Path(volume["spec"]["local"]["path"])
    assert (folder / "file").read_text() == "kept\n"
    kubectl("delete", "pod/writer", "pod/reader", "pvc/data", "--now")
    kubectl.wait_for(lambda: kubectl.get("pv"), lambda found: not found, "the volume to be deleted")
    assert not folder.exists()


@pytest.mark.cluster
def test_the_metrics_api_is_available(kubectl: Any) -> None:
    def conditions() -> Any:
        found = kubectl.get("apiservice", "--ignore-not-found", "-l", "!kube-aggregator.kubernetes.io/automanaged")
        return {each["metadata"]["name"]: each["status"]["conditions"][0]["status"] for each in found}

    kubectl.wait_for(conditions, lambda found: found == {"v1beta1.metrics.k8s.io": "True"}, "the metrics API")
    offered = json.loads(kubectl("get", "--raw", "/apis/metrics.k8s.io/v1beta1"))
    assert {each["name"] for each in offered["resources"]} == {"nodes", "pods"}
