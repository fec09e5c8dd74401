"""What the control plane's programs are started with."""

import json
from datetime import UTC, datetime
from pathlib import Path

import yaml

from clusters.api import ControlPlane, Gpus, NodeSpec, Taint
from clusters.embedded import controlplane, network, node
from clusters.embedded.gpu.devices import assign
from clusters.embedded.pki import Pair

PAIR = Pair(Path("/pki/x.crt"), Path("/pki/x.key"))


def test_the_api_server_lets_nobody_in_without_a_certificate_or_token() -> None:
    argv = controlplane.apiserver_argv("kube-apiserver", Path("/pki"), Path("/pki/ca.crt"), PAIR, PAIR, Path("/pki/sa"))
    assert "--anonymous-auth=false" in argv
    assert "--authorization-mode=Node,RBAC" in argv
    assert "--enable-admission-plugins=NodeRestriction" in argv
    assert not [flag for flag in argv if flag.startswith(("--token-auth-file", "--insecure"))]


def test_etcd_listens_on_no_network() -> None:
    argv = controlplane.etcd_argv("etcd", Path("/state/etcd"))
    assert [flag for flag in argv if "listen" in flag] == [
        "--listen-client-urls=unix://localhost:23790",
        "--listen-peer-urls=unix://localhost:23800",
    ]


def test_the_proxy_writes_nftables_and_no_conntrack_settings() -> None:
    config = controlplane.proxy_config(Path("/pki/proxy.conf"), "a")
    assert config["mode"] == "nftables"
    assert config["conntrack"] == {
        "maxPerCore": 0,
        "min": 0,
        "tcpEstablishedTimeout": "0s",
        "tcpCloseWaitTimeout": "0s",
    }


def test_names_outside_the_cluster_are_not_asked_for_elsewhere() -> None:
    assert "forward" not in controlplane.corefile(Path("/pki/coredns.conf"))


def test_the_first_objects_name_the_addresses_of_the_network() -> None:
    objects = list(yaml.safe_load_all(controlplane.BOOTSTRAP.read_text()))
    service = next(each for each in objects if each["kind"] == "Service")
    endpoints = next(each for each in objects if each["kind"] == "EndpointSlice")
    assert service["spec"]["clusterIP"] == network.DNS_SERVICE
    assert endpoints["endpoints"][0]["addresses"] == [network.API]


def test_readiness_is_the_condition_of_that_name() -> None:
    conditions = [{"type": "DiskPressure", "status": "True"}, {"type": "Ready", "status": "False"}]
    assert not controlplane.is_ready({"status": {"conditions": conditions}})
    assert controlplane.is_ready({"status": {"conditions": [{"type": "Ready", "status": "True"}]}})
    assert not controlplane.is_ready({"status": {}})


def test_readiness_can_be_asked_for_from_a_moment_on() -> None:
    ready = {"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-02T03:04:05Z"}
    found = {"status": {"conditions": [ready]}}
    assert controlplane.is_ready(found, datetime(2026, 1, 2, 3, 4, 5, 999, tzinfo=UTC))
    assert not controlplane.is_ready(found, datetime(2026, 1, 2, 3, 4, 6, tzinfo=UTC))


def test_the_times_of_a_cluster_are_flags_of_its_programs() -> None:
    times = ControlPlane(10, 5, 1, 20, 3, 4)
    assert controlplane.apiserver_times(times) == [
        "--default-not-ready-toleration-seconds=3",
        "--default-unreachable-toleration-seconds=4",
    ]
    assert controlplane.manager_times(times) == ["--node-monitor-period=1s", "--node-monitor-grace-period=20s"]
    assert node.kubelet_times(times) == {
        "nodeLeaseDurationSeconds": 10,
        "nodeStatusUpdateFrequency": "5s",
        "nodeStatusReportFrequency": "5m",
    }


def test_a_kubelet_asks_the_api_server_who_may_call_it() -> None:
    paths = node.Paths(Path("/state/n"), Path("/run/n.sock"))
    spec = NodeSpec("n", taints=(Taint("nvidia.com/gpu", "NoSchedule", "present"),))
    config = node.kubelet_config("172.30.0.1", paths, Path("/pki/ca.crt"), PAIR, spec)
    assert config["authentication"]["anonymous"] == {"enabled": False}
    assert config["authorization"] == {"mode": "Webhook"}
    assert config["registerWithTaints"] == [{"key": "nvidia.com/gpu", "effect": "NoSchedule", "value": "present"}]
    assert json.loads(json.dumps(config)) == config


def test_a_node_is_labelled_with_its_gpus_and_capacity_type() -> None:
    spec = NodeSpec("n", labels={"zone": "a"}, gpus=Gpus("NVIDIA-L4", 2), capacity_type="spot")
    labels = node.labels(spec, assign([spec], ())[0])
    assert labels["karpenter.sh/capacity-type"] == "spot"
    assert labels["nvidia.com/gpu.product"] == "NVIDIA-L4"
    assert labels["nvidia.com/gpu.count"] == "2"
    assert labels["gpulab/simulated"] == "true"
    assert labels["zone"] == "a"
