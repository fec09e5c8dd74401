"""One embedded cluster, looked at with kubectl as a person would: nodes, images, isolation, who gets in."""

import json
import socket
from typing import Any

import pytest

from clusters.embedded.backend import EmbeddedCluster
from clusters.process import CommandFailed, run
from clusters.wait import until
from tests.conftest import Kubectl
from tests.patience import PATIENCE

pytestmark = pytest.mark.cluster


def pod(name: str, command: str, **spec: Any) -> str:
    container = {"name": "main", "image": spec.pop("image", "python:3.12"), "command": ["sh", "-c", command]}
    container |= spec.pop("container", {})
    body = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [container]} | spec
    return json.dumps(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": body}
    )


def test_the_programs_say_their_true_version(kubectl: Kubectl) -> None:
    said = json.loads(kubectl("version", "-o", "json"))
    assert said["clientVersion"]["gitVersion"] == said["serverVersion"]["gitVersion"]
    assert said["serverVersion"]["gitVersion"].startswith("v1.37.")


def test_nodes_are_ready_and_carry_what_cluster_yaml_says(kubectl: Kubectl) -> None:
    nodes = {node["metadata"]["name"]: node for node in kubectl.get("nodes")}
    assert sorted(nodes) == ["gpu-1", "gpu-2", "system"]
    labels = nodes["gpu-1"]["metadata"]["labels"]
    assert labels["nvidia.com/gpu.product"] == "NVIDIA-L4"
    assert labels["nvidia.com/gpu.count"] == "2"
    assert labels["gpulab/simulated"] == "true"
    assert labels["karpenter.sh/capacity-type"] == "spot"
    assert "nvidia.com/gpu" not in nodes["system"]["status"]["capacity"]


def test_a_node_keeps_only_the_taints_that_cluster_yaml_says(kubectl: Kubectl) -> None:
    said = [{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}]
    found = until(  # Kubernetes takes its own off some moments after the node is Ready
        lambda: json.loads(kubectl("get", "node", "gpu-1", "-o", "json"))["spec"].get("taints"),
        lambda taints: taints == said,
        what="its own taints to be the only ones of gpu-1",
        seconds=PATIENCE,
    )
    assert found == said


def test_pods_resolve_no_name_outside(kubectl: Kubectl) -> None:
    ask = "import socket\ntry: socket.getaddrinfo('example.com', 80)\nexcept OSError as error: print(error)"
    kubectl("apply", "-f", "-", stdin=pod("asks", f'python3 -c "{ask}"'))
    kubectl.phase("asks", "Succeeded")
    assert kubectl("logs", "asks").strip() == "[Errno -2] Name or service not known"
    kubectl("delete", "pod/asks")


def test_an_unknown_image_is_an_error_that_says_what_to_do(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=pod("unknown", "true", image="example/unknown:1"))
    waiting = kubectl.wait_for(
        lambda: (
            kubectl.get("pod", "unknown")["status"]
            .get("containerStatuses", [{}])[0]
            .get("state", {})
            .get("waiting", {})
        ),
        lambda found: (
            found.get("reason") in ("ErrImagePull", "ImagePullBackOff") and "example/unknown:1" in found["message"]
        ),
        "the image to be refused",
    )
    assert "python:3" in waiting["message"]
    kubectl("delete", "pod", "unknown")


def test_resizing_a_running_pod_is_refused_with_a_sentence(kubectl: Kubectl) -> None:
    kubectl(
        "apply", "-f", "-", stdin=pod("resized", "sleep 600", container={"resources": {"requests": {"cpu": "10m"}}})
    )
    kubectl.phase("resized", "Running")
    asked = json.dumps({"spec": {"containers": [{"name": "main", "resources": {"requests": {"cpu": "20m"}}}]}})
    with pytest.raises(CommandFailed) as caught:
        kubectl("patch", "pod", "resized", "--subresource=resize", "--patch", asked)
    assert caught.value.output.strip().endswith(
        "asked to change the resources of a running pod, which the embedded cluster does not offer; delete the pod and "
        "create it anew with other resources"
    )
    kubectl("delete", "pod", "resized")


def test_a_container_has_no_power_over_the_cluster(kubectl: Kubectl) -> None:
    probe = (
        "for p in /proc/sys/kernel/core_pattern /proc/sys/net/ipv4/ip_forward /usr/x /sys/x; do"
        " (echo 1 > $p) 2>/dev/null && echo wrote $p; done;"
        " unshare -U true 2>/dev/null && echo nested; ip link add x type bridge 2>/dev/null && echo linked;"
        " grep -c . /proc/net/dev; ls /proc | grep -c '^[0-9]'; grep NoNewPrivs /proc/self/status"
    )
    kubectl("apply", "-f", "-", stdin=pod("probe", probe))
    kubectl.phase("probe", "Succeeded")
    lines = kubectl("logs", "probe").splitlines()
    assert not [line for line in lines if line.startswith(("wrote", "nested", "linked"))], lines
    assert lines[-1].split() == ["NoNewPrivs:", "1"]
    assert int(lines[-2]) < 10  # it sees its own processes only
    kubectl("delete", "pod", "probe")


def test_pods_do_not_reach_the_machines_loopback(kubectl: Kubectl) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        code = f"import socket; socket.create_connection(('127.0.0.1', {port}), 1)"
        kubectl("apply", "-f", "-", stdin=pod("reaches", f'python3 -c "{code}"'))
        kubectl.phase("reaches", "Failed")
    assert "ConnectionRefusedError" in kubectl("logs", "reaches")
    kubectl("delete", "pod", "reaches")


def test_no_device_leads_out_of_the_cluster(embedded: EmbeddedCluster) -> None:
    lines = run(embedded.enter(["cat", "/proc/net/dev"])).splitlines()[2:]
    names = {line.partition(":")[0].strip() for line in lines}
    assert {name for name in names if not name.startswith("veth")} == {"lo", "nodes"}


def test_private_keys_of_the_machine_are_not_in_a_container(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=pod("keys", "ls /etc/ssl; ls /etc/ssl/certs | grep -c ."))
    kubectl.phase("keys", "Succeeded")
    *folders, count = kubectl("logs", "keys").split()
    assert "private" not in folders
    assert int(count) > 0
    kubectl("delete", "pod", "keys")


def test_a_kubelet_lets_nobody_in_without_a_certificate(embedded: EmbeddedCluster) -> None:
    ask = (
        "import ssl, urllib.request as u, urllib.error as e\n"
        "try: u.urlopen('https://172.30.0.1:10250/pods', context=ssl._create_unverified_context(), timeout=5)\n"
        "except e.HTTPError as error: print(error.code)\n"
    )
    assert run(embedded.enter(["python3", "-c", ask])).strip() == "401"


def test_state_is_private(embedded: EmbeddedCluster) -> None:
    folder = embedded.kubeconfig.parent
    assert folder.stat().st_mode & 0o777 == 0o700
    assert embedded.kubeconfig.stat().st_mode & 0o777 == 0o600
