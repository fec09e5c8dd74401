"""Volumes as a pod sees them: what the kubelet makes of them, and what the runtime mounts where."""

import itertools
import json
from typing import Any

import pytest

from clusters.embedded.backend import EmbeddedCluster
from tests.conftest import Kubectl

pytestmark = pytest.mark.cluster


def pod(name: str, script: str, volumes: list[Any], mounts: list[Any], **spec: Any) -> str:
    main = {"name": "main", "image": "busybox", "command": ["sh", "-c", script], "volumeMounts": mounts}
    main |= spec.pop("container", {})
    body = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 0,
        "containers": [main],
        "volumes": volumes,
        **spec,
    }
    labels = {"app": name}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": body})


def test_config_secrets_and_facts_of_the_pod_are_files(kubectl: Kubectl) -> None:
    kubectl("create", "configmap", "settings", "--from-literal=colour=blue")
    kubectl("create", "secret", "generic", "password", "--from-literal=word=open")
    sources = [
        {"configMap": {"name": "settings", "items": [{"key": "colour", "path": "deep/colour", "mode": 0o440}]}},
        {"secret": {"name": "password"}},
        {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
    ]
    volumes = [
        {"name": "all", "projected": {"sources": sources, "defaultMode": 0o400}},
        {"name": "settings", "configMap": {"name": "settings"}},
    ]
    mounts = [
        {"name": "all", "mountPath": "/all"},
        {"name": "settings", "mountPath": "/etc/one", "subPath": "colour"},
    ]
    script = (
        "cat /all/deep/colour /etc/one; echo; cat /all/word; echo; cat /all/labels; echo; "
        "stat -L -c '%a %U' /all/deep/colour /all/word; touch /all/x 2>&1; echo red > /etc/one"
    )
    kubectl("apply", "-f", "-", stdin=pod("files", script, volumes, mounts))
    kubectl.phase("files", "Failed")
    shown = kubectl("logs", "files").splitlines()
    assert shown[:5] == ["blueblue", "open", 'app="files"', "440 root", "400 root"]
    assert ["Read-only file system" in line for line in shown[5:]] == [True, True]
    kubectl("delete", "pod/files", "secret/password", "configmap/settings", "--wait=false")


def test_a_changed_config_map_reaches_a_running_pod(kubectl: Kubectl) -> None:
    kubectl("create", "configmap", "changing", "--from-literal=colour=blue")
    volumes = [{"name": "settings", "configMap": {"name": "changing"}}]
    mounts = [{"name": "settings", "mountPath": "/settings"}]
    script = "until grep -q red /settings/colour; do sleep 0.05; done; echo seen"
    kubectl("apply", "-f", "-", stdin=pod("watches", script, volumes, mounts))
    kubectl.phase("watches", "Running")
    kubectl("patch", "configmap", "changing", "--patch", '{"data": {"colour": "red"}}')
    turns = itertools.count()

    def look() -> str:
        kubectl("annotate", "pod", "watches", "--overwrite", f"turn={next(turns)}")  # else it looks once a minute
        return str(kubectl.get("pod", "watches")["status"]["phase"])

    kubectl.wait_for(look, lambda phase: phase == "Succeeded", "the kubelet to have brought the change")
    assert kubectl("logs", "watches") == "seen\n"
    kubectl("delete", "pod/watches", "configmap/changing", "--wait=false")


def test_memory_parts_and_read_only_volumes(kubectl: Kubectl) -> None:
    volumes = [
        {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}},
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "128Mi"}},
        {"name": "disk", "emptyDir": {}},
    ]
    mounts = [
        {"name": "memory", "mountPath": "/memory"},
        {"name": "shm", "mountPath": "/dev/shm"},
        {"name": "disk", "mountPath": "/whole"},
        {"name": "disk", "mountPath": "/part", "subPathExpr": "of/$(NAME)"},
        {"name": "disk", "mountPath": "/closed", "readOnly": True, "recursiveReadOnly": "Enabled"},
    ]
    script = (
        "df -P /memory /dev/shm | awk 'NR > 1 {print $1, $2}'; echo x > /part/file; "
        "ls /whole/of/parts /closed/of/parts; touch /closed/x 2>&1; "
        "head -c 20000000 /dev/zero > /memory/big 2>/dev/null || echo full"
    )
    container = {"env": [{"name": "NAME", "value": "parts"}]}
    kubectl("apply", "-f", "-", stdin=pod("parts", script, volumes, mounts, container=container))
    kubectl.phase("parts", "Succeeded")
    assert kubectl("logs", "parts").splitlines() == [
        "tmpfs 16384",
        "tmpfs 131072",
        "/closed/of/parts:",
        "file",
        "",
        "/whole/of/parts:",
        "file",
        "touch: cannot touch '/closed/x': Read-only file system",
        "full",
    ]
    kubectl("delete", "pod", "parts", "--wait=false")


def test_a_volume_belongs_to_the_group_that_the_pod_names(kubectl: Kubectl, embedded: EmbeddedCluster) -> None:
    if embedded.traits.users == "mapped":
        pytest.skip("one id stands for all here")
    security = {"runAsUser": 1000, "runAsGroup": 3000, "fsGroup": 2000, "supplementalGroups": [4000]}
    volumes = [{"name": "disk", "emptyDir": {}}]
    mounts = [{"name": "disk", "mountPath": "/disk"}]
    script = "id; touch /disk/x; stat -c '%u:%g %a' /disk; stat -c '%u:%g' /disk/x"
    kubectl("apply", "-f", "-", stdin=pod("owned", script, volumes, mounts, securityContext=security))
    found = kubectl.phase("owned", "Succeeded")
    ids, folder, file = kubectl("logs", "owned").splitlines()
    assert ids.split()[:2] == ["uid=1000(user1000)", "gid=3000(group3000)"]
    assert {word.partition("(")[0] for word in ids.partition("groups=")[2].split(",")} == {"2000", "3000", "4000"}
    assert (folder, file) == ("0:2000 2777", "1000:2000")
    user = found["status"]["containerStatuses"][0]["user"]["linux"]
    assert (user["uid"], user["gid"], sorted(user["supplementalGroups"])) == (1000, 3000, [2000, 4000])
    kubectl("delete", "pod", "owned", "--wait=false")
