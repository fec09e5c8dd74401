"""Volumes: emptyDir, memory, ConfigMap and Secret with updates, subPath, projected, downward API, claims."""

import pytest

from clusters.wait import until
from tests.contract.subject import Object, Space, is_ready, pod, service, template, workload
from tests.patience import PATIENCE


def mounts(**paths: str) -> Object:
    """A container's mounts, by name of volume."""
    return {"volumeMounts": [{"name": name, "mountPath": path} for name, path in paths.items()]}


def claim(name: str) -> Object:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    return {"kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}


@pytest.fixture(scope="module")
def configured(space: Space) -> None:
    """A ConfigMap and a Secret with two keys each."""
    space.create(
        {"kind": "ConfigMap", "metadata": {"name": "config"}, "data": {"a": "one", "b": "two"}},
        {"kind": "Secret", "metadata": {"name": "secret"}, "stringData": {"a": "hidden", "b": "other"}},
    )


@pytest.fixture(scope="module")
def storage(space: Space) -> None:
    """A StorageClass that is the default one."""
    mark = "storageclass.kubernetes.io/is-default-class"
    classes = [each["metadata"].get("annotations") or {} for each in space.find("StorageClass")]
    assert any(each.get(mark) == "true" for each in classes), "this cluster has no default StorageClass"


def test_an_empty_dir_is_shared_by_the_containers_of_a_pod(space: Space) -> None:
    first = template("echo from the first > /data/x; chmod 600 /data/x", container=mounts(data="/data"))["containers"]
    volumes = [{"name": "data", "emptyDir": {}}]
    said = space.run(
        "shared",
        "cat /other/x; stat -c %a /other",
        container=mounts(data="/other"),
        volumes=volumes,
        initContainers=[first[0] | {"name": "first"}],
    )
    assert said.splitlines() == ["from the first", "777"]


def test_an_empty_dir_in_memory_is_a_tmpfs_of_its_size(space: Space) -> None:
    volumes = [{"name": "data", "emptyDir": {"medium": "Memory", "sizeLimit": "2Mi"}}]
    said = space.run(
        "memory",
        "grep ' /data ' /proc/mounts | cut -d' ' -f3; head -c 3000000 /dev/zero > /data/x 2>/dev/null || echo full",
        container=mounts(data="/data"),
        volumes=volumes,
    )
    assert said.split() == ["tmpfs", "full"]


def test_keys_are_files_with_modes_items_and_subpaths(space: Space, configured: None) -> None:
    items = [{"key": "a", "path": "deep/er", "mode": 0o400}]
    volumes = [
        {"name": "config", "configMap": {"name": "config"}},
        {"name": "secret", "secret": {"secretName": "secret", "items": items}},
    ]
    own = mounts(config="/config", secret="/secret")
    own["volumeMounts"].append({"name": "config", "mountPath": "/etc/just.one", "subPath": "b"})
    said = space.run(
        "files",
        "cat /config/a; echo; cat /secret/deep/er; echo; stat -Lc %a /secret/deep/er; cat /etc/just.one; echo;"
        " touch /config/x 2>/dev/null || echo refused",
        container=own,
        volumes=volumes,
    )
    assert said.split() == ["one", "hidden", "400", "two", "refused"]


def test_keys_are_variables(space: Space, configured: None) -> None:
    reference = {"valueFrom": {"secretKeyRef": {"name": "secret", "key": "a"}}}
    own = {"env": [{"name": "ONE", **reference}], "envFrom": [{"prefix": "ALL_", "configMapRef": {"name": "config"}}]}
    assert space.run("variables", "echo $ONE $ALL_a $ALL_b", container=own).split() == ["hidden", "one", "two"]
    space.create(pod("unset", "true", container={"envFrom": [{"configMapRef": {"name": "missing"}}]}))
    waits = space.until("Pod", "unset", lambda found: found["status"].get("containerStatuses"))
    reason = waits["status"]["containerStatuses"][0]["state"]["waiting"]["reason"]
    assert reason in ("ContainerCreating", "CreateContainerConfigError")


def test_a_changed_config_map_reaches_a_running_pod(space: Space) -> None:
    space.create({"kind": "ConfigMap", "metadata": {"name": "changes"}, "data": {"a": "before"}})
    command = 'last=; while :; do now=$(cat /config/a); test $now = "$last" || echo $now; last=$now; sleep 0.1; done'
    volumes = [{"name": "config", "configMap": {"name": "changes"}}]
    space.create(pod("watches", command, container=mounts(config="/config"), volumes=volumes))
    space.phase("watches", "Running")
    until(lambda: space.log("watches"), lambda said: "before" in said, what="the first value", seconds=PATIENCE)
    space.patch("ConfigMap", "changes", {"data": {"a": "after"}})
    # The kubelet looks when it next syncs the pod, which a changed annotation makes it do.
    space.patch("Pod", "watches", {"metadata": {"annotations": {"contract.test/now": "yes"}}})
    said = until(lambda: space.log("watches"), lambda said: "after" in said, what="the change", seconds=2 * PATIENCE)
    assert said.split() == ["before", "after"]


def test_sources_are_projected_into_one_folder(space: Space, configured: None) -> None:
    name = {"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}
    label = {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}
    limit = {"path": "cpu", "resourceFieldRef": {"containerName": "main", "resource": "limits.cpu", "divisor": "1m"}}
    sources = [
        {"configMap": {"name": "config", "items": [{"key": "a", "path": "config"}]}},
        {"secret": {"name": "secret", "items": [{"key": "b", "path": "secret"}]}},
        {"downwardAPI": {"items": [name, label, limit]}},
    ]
    said = space.run(
        "projected",
        "cd /all; for f in config secret name labels cpu; do cat $f; echo; done",
        container=mounts(all="/all") | {"resources": {"limits": {"cpu": "250m"}}},
        volumes=[{"name": "all", "projected": {"sources": sources}}],
    )
    assert said.split() == ["one", "other", "projected", 'app="projected"', "250"]


@pytest.mark.trait("a default StorageClass")
def test_a_claim_keeps_its_data_from_pod_to_pod(space: Space, storage: None) -> None:
    volumes = [{"name": "kept", "persistentVolumeClaim": {"claimName": "kept"}}]
    space.create(claim("kept"))
    space.run("writes", "echo kept > /kept/x", container=mounts(kept="/kept"), volumes=volumes)
    space.delete("Pod", "writes")
    assert space.run("reads", "cat /kept/x", container=mounts(kept="/kept"), volumes=volumes).strip() == "kept"
    found = space.get("PersistentVolumeClaim", "kept")
    assert found["status"]["phase"] == "Bound"
    volume = found["spec"]["volumeName"]
    space.delete("Pod", "reads")
    space.delete("PersistentVolumeClaim", "kept")
    space.gone("PersistentVolume", volume)


@pytest.mark.trait("a default StorageClass")
def test_each_pod_of_a_stateful_set_has_a_claim_of_its_own(space: Space, storage: None) -> None:
    command = "test -e /own/name || hostname > /own/name; cat /own/name; exec sleep 600"
    made = workload(
        "StatefulSet",
        "own",
        template(command, container=mounts(own="/own")),
        replicas=2,
        serviceName="own",
        podManagementPolicy="Parallel",
        volumeClaimTemplates=[claim("own")],
        persistentVolumeClaimRetentionPolicy={"whenDeleted": "Delete", "whenScaled": "Retain"},
    )
    space.create(service("own", clusterIP="None"), made)
    space.until("StatefulSet", "own", lambda found: found["status"].get("readyReplicas") == 2)
    uid = space.get("Pod", "own-1")["metadata"]["uid"]
    space.delete("Pod", "own-1")
    until(
        lambda: [each for each in space.find("Pod", label_selector="app=own") if is_ready(each)],
        lambda found: len(found) == 2 and uid not in [each["metadata"]["uid"] for each in found],
        what="own-1 to come back",
        seconds=PATIENCE,
    )
    said = until(lambda: space.log("own-1").strip(), bool, what="its name", seconds=PATIENCE)
    assert said == "own-1"
    assert {each["metadata"]["name"] for each in space.find("PersistentVolumeClaim")} >= {"own-own-0", "own-own-1"}
    space.delete("StatefulSet", "own")
    space.gone("PersistentVolumeClaim", "own-own-1")
