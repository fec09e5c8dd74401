"""Objects: create, patch, server-side apply, watch, selectors, pages, dry run, generations, conflicts."""

import json

import pytest
from kubernetes.client.exceptions import ApiException

from clusters.process import CommandFailed
from tests.contract.subject import Object, Space, template, workload


def config(name: str, **data: str) -> Object:
    return {"kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def test_an_object_is_created_once_and_found_by_its_name(space: Space) -> None:
    made = space.create(config("once", key="value"))
    assert made["metadata"]["uid"]
    assert space.get("ConfigMap", "once")["data"] == {"key": "value"}
    with pytest.raises(ApiException) as caught:
        space.create(config("once"))
    assert (caught.value.status, caught.value.reason) == (409, "Conflict")


@pytest.mark.parametrize(
    ("kind", "patch", "expected"),
    [
        ("application/merge-patch+json", {"data": {"a": None, "b": "2"}}, {"b": "2", "c": "3"}),
        ("application/strategic-merge-patch+json", {"data": {"a": "9"}}, {"a": "9", "c": "3"}),
        ("application/json-patch+json", [{"op": "remove", "path": "/data/c"}], {"a": "1"}),
    ],
)
def test_three_kinds_of_patch(space: Space, kind: str, patch: Object, expected: Object) -> None:
    name = kind.partition("/")[2].replace("+", "-")
    space.create(config(name, a="1", c="3"))
    assert space.patch("ConfigMap", name, patch, content_type=kind)["data"] == expected


def test_a_stale_update_is_refused(space: Space) -> None:
    old = space.create(config("stale", a="1"))
    space.patch("ConfigMap", "stale", {"data": {"a": "2"}})
    with pytest.raises(ApiException) as caught:
        space.resource("ConfigMap").replace(body=old, namespace=space.name)
    assert caught.value.status == 409
    assert "the object has been modified" in json.loads(caught.value.body)["message"]


def test_server_side_apply_tells_two_managers_apart(space: Space) -> None:
    body = json.dumps({"apiVersion": "v1", **config("applied", a="1")})
    space.kubectl("apply", "--server-side", "--field-manager=one", "-f", "-", stdin=body)
    other = body.replace('"1"', '"2"')
    with pytest.raises(CommandFailed, match='conflict with "one"'):
        space.kubectl("apply", "--server-side", "--field-manager=two", "-f", "-", stdin=other)
    words = ("apply", "--server-side", "--field-manager=two", "--force-conflicts", "-f", "-")
    space.kubectl(*words, stdin=other)
    found = space.get("ConfigMap", "applied")
    assert found["data"] == {"a": "2"}
    assert [each["manager"] for each in found["metadata"]["managedFields"]] == ["two"]


def test_a_watch_tells_each_change_from_where_the_list_ended(space: Space) -> None:
    resource = space.resource("ConfigMap")
    start = resource.get(namespace=space.name).metadata.resourceVersion
    space.create(config("watched", a="1"))
    space.patch("ConfigMap", "watched", {"data": {"a": "2"}})
    space.delete("ConfigMap", "watched")
    seen = []
    for event in resource.watch(namespace=space.name, resource_version=start, timeout=30):
        if event["object"].metadata.name == "watched":
            seen.append((event["type"], event["object"].data.a))
        if event["type"] == "DELETED":
            break
    assert seen == [("ADDED", "1"), ("MODIFIED", "2"), ("DELETED", "2")]


def test_lists_come_in_pages_and_narrowed(space: Space) -> None:
    for number in range(5):
        labels = {"set": "paged", "odd": str(number % 2)}
        space.create(config(f"page-{number}") | {"metadata": {"name": f"page-{number}", "labels": labels}})
    resource = space.resource("ConfigMap")
    first = resource.get(namespace=space.name, label_selector="set=paged", limit=2)
    assert first.metadata.remainingItemCount is None  # not counted where a selector narrows the list
    rest = space.subject.dynamic.get(
        resource, namespace=space.name, label_selector="set=paged", limit=9, _continue=first.metadata["continue"]
    )
    names = [each.metadata.name for each in [*first.items, *rest.items]]
    assert names == [f"page-{number}" for number in range(5)]
    odd = space.find("ConfigMap", label_selector="set=paged,odd notin (0)")
    assert [each["metadata"]["name"] for each in odd] == ["page-1", "page-3"]
    (one,) = space.find("ConfigMap", field_selector="metadata.name=page-4")
    assert one["metadata"]["labels"]["odd"] == "0"


def test_a_dry_run_admits_and_keeps_nothing(space: Space) -> None:
    made = space.create(workload("Deployment", "dry", template("true")), query_params=[("dryRun", "All")])
    assert made["spec"]["replicas"] == 1  # the defaults are filled in
    assert not space.exists("Deployment", "dry")


def test_a_generation_counts_changes_of_the_spec_only(space: Space) -> None:
    space.create(workload("Deployment", "counted", template("true"), replicas=0))
    space.patch("Deployment", "counted", {"metadata": {"labels": {"a": "b"}}})
    assert space.get("Deployment", "counted")["metadata"]["generation"] == 1
    space.patch("Deployment", "counted", {"spec": {"paused": True}})
    found = space.until("Deployment", "counted", lambda found: found["status"].get("observedGeneration") == 2)
    assert found["metadata"]["generation"] == 2


def test_invalid_objects_are_refused_by_the_name_of_their_field(space: Space) -> None:
    with pytest.raises(ApiException) as caught:
        space.create(workload("Deployment", "Capital", template("true")))
    causes = json.loads(caught.value.body)["details"]["causes"]
    assert (caught.value.status, [cause["field"] for cause in causes]) == (422, ["metadata.name"])
    wrong = json.dumps({"apiVersion": "v1", **config("strict"), "dat": {}})
    with pytest.raises(CommandFailed, match='unknown field "dat"'):
        space.kubectl("create", "-f", "-", stdin=wrong)


def test_secrets_and_configmaps_can_be_made_immutable(space: Space) -> None:
    space.create(config("fixed", a="1") | {"immutable": True})
    with pytest.raises(ApiException) as caught:
        space.patch("ConfigMap", "fixed", {"data": {"a": "2"}})
    assert "field is immutable when `immutable` is set" in json.loads(caught.value.body)["message"]


def test_kubectl_explains_diffs_and_scales(space: Space) -> None:
    assert "FIELD: replicas <integer>" in space.kubectl("explain", "deployment.spec.replicas")
    space.create(workload("Deployment", "scaled", template("true"), replicas=0))
    space.kubectl("scale", "deployment/scaled", "--replicas=0", "--current-replicas=0")
    space.kubectl("annotate", "deployment/scaled", "note=here")
    assert space.kubectl("get", "deployment/scaled", "-o", "jsonpath={.metadata.annotations.note}") == "here"
