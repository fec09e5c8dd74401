"""Finalizers, owners and what is removed with them: in the foreground, in the background, or left as orphans."""

from tests.contract.subject import Object, Space, template, workload
from tests.patience import PATIENCE


def config(name: str, owner: Object | None = None, finalizers: tuple[str, ...] = ()) -> Object:
    meta: Object = {"name": name, "finalizers": list(finalizers)}
    if owner:
        reference = {"apiVersion": "v1", "kind": "ConfigMap", "blockOwnerDeletion": True}
        meta["ownerReferences"] = [reference | {"name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"]}]
    return {"kind": "ConfigMap", "metadata": meta}


def test_a_finalizer_keeps_an_object_until_it_is_taken_off(space: Space) -> None:
    space.create(config("held", finalizers=("contract.test/hold",)))
    space.delete("ConfigMap", "held")
    assert space.get("ConfigMap", "held")["metadata"]["deletionTimestamp"]
    space.patch("ConfigMap", "held", {"metadata": {"finalizers": None}})
    space.gone("ConfigMap", "held")
    assert not space.exists("ConfigMap", "held")


def test_in_the_background_the_owner_goes_first(space: Space) -> None:
    owner = space.create(config("background"))
    space.create(config("background-child", owner))
    space.delete("ConfigMap", "background", propagationPolicy="Background")
    assert not space.exists("ConfigMap", "background")
    space.gone("ConfigMap", "background-child")


def test_in_the_foreground_the_owner_waits_for_what_it_owns(space: Space) -> None:
    owner = space.create(config("foreground"))
    space.create(config("foreground-child", owner, finalizers=("contract.test/hold",)))
    space.delete("ConfigMap", "foreground", propagationPolicy="Foreground")
    space.until("ConfigMap", "foreground-child", lambda found: found["metadata"].get("deletionTimestamp"))
    assert space.get("ConfigMap", "foreground")["metadata"]["finalizers"] == ["foregroundDeletion"]
    space.patch("ConfigMap", "foreground-child", {"metadata": {"finalizers": None}})
    space.gone("ConfigMap", "foreground")
    assert not space.exists("ConfigMap", "foreground-child")


def test_an_orphan_stays_and_has_no_owner(space: Space) -> None:
    owner = space.create(config("orphan"))
    space.create(config("orphan-child", owner))
    space.delete("ConfigMap", "orphan", propagationPolicy="Orphan")
    space.gone("ConfigMap", "orphan")
    assert "ownerReferences" not in space.get("ConfigMap", "orphan-child")["metadata"]


def test_deleting_a_deployment_removes_its_pods(space: Space) -> None:
    space.create(workload("Deployment", "whole", template("sleep 600")))
    space.until("Deployment", "whole", lambda found: found["status"].get("readyReplicas") == 1)
    space.kubectl("delete", "deployment/whole", "--cascade=foreground", f"--timeout={PATIENCE:g}s")
    assert not space.find("Pod", label_selector="app=whole")
    assert not space.find("ReplicaSet", label_selector="app=whole")


def test_what_an_unknown_owner_holds_is_removed(space: Space) -> None:
    nobody = {"metadata": {"name": "nobody", "uid": "00000000-0000-0000-0000-000000000000"}}
    space.create(config("abandoned", nobody))
    space.gone("ConfigMap", "abandoned")
    assert not space.exists("ConfigMap", "abandoned")
