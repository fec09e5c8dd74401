"""Where objects are posted to; and what an API server that is not there, or refuses, is to its holder."""

import pytest
import yaml

from clusters.embedded import controlplane, rest


@pytest.mark.parametrize(
    ("version", "kind", "namespace", "path"),
    [
        ("v1", "Service", "kube-system", "/api/v1/namespaces/kube-system/services"),
        ("storage.k8s.io/v1", "StorageClass", None, "/apis/storage.k8s.io/v1/storageclasses"),
        (
            "admissionregistration.k8s.io/v1",
            "ValidatingAdmissionPolicy",
            None,
            "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies",
        ),
        ("discovery.k8s.io/v1", "EndpointSlice", "a", "/apis/discovery.k8s.io/v1/namespaces/a/endpointslices"),
    ],
)
def test_an_object_has_its_place(version: str, kind: str, namespace: str | None, path: str) -> None:
    metadata = {"name": "x"} | ({"namespace": namespace} if namespace else {})
    assert rest.place({"apiVersion": version, "kind": kind, "metadata": metadata}) == path


def test_the_first_objects_are_whole() -> None:
    objects = list(yaml.safe_load_all(controlplane.BOOTSTRAP.read_text()))
    assert all({"apiVersion", "kind", "metadata"} <= each.keys() for each in objects)
