"""Extending the API: custom resources with their own rules, and webhooks that a pod serves."""

import base64
import datetime
import json
from collections.abc import Iterator

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from kubernetes.client.exceptions import ApiException

from clusters.wait import until
from tests.contract.subject import PYTHON, Object, Space, python, service, unique
from tests.patience import PATIENCE

GROUP = unique("contract") + ".test"
WIDGET = f"{GROUP}/v1"

SERVER = """
import base64, http.server, json, ssl
class Review(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["request"]
        answer = {"uid": asked["uid"], "allowed": True}
        data = asked["object"].get("data") or {}
        if self.path.startswith("/mutate"):
            patch = [{"op": "add", "path": "/data", "value": {**data, "added": "by the webhook"}}]
            answer |= {"patchType": "JSONPatch", "patch": base64.b64encode(json.dumps(patch).encode()).decode()}
        elif data.get("colour") == "mauve":
            answer |= {"allowed": False, "status": {"message": "mauve is not a colour"}}
        body = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": answer}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())
    def log_message(self, *_): pass
    do_GET = lambda self: (self.send_response(200), self.end_headers())
server = http.server.ThreadingHTTPServer(("", 443), Review)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/pair/tls.crt", "/pair/tls.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""


@pytest.fixture(scope="module")
def widgets(space: Space) -> Iterator[None]:
    """A namespaced custom resource with a schema, a rule of CEL, a default, a status and a scale."""
    size = {"type": "integer", "minimum": 1}
    spec = {
        "type": "object",
        "properties": {"size": size, "most": {"type": "integer", "default": 9}, "replicas": {"type": "integer"}},
        "required": ["size"],
        "x-kubernetes-validations": [{"rule": "self.size <= self.most", "message": "size is over most"}],
    }
    status = {"type": "object", "properties": {"replicas": {"type": "integer"}, "seen": {"type": "integer"}}}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec, "status": status}}},
        "subresources": {
            "status": {},
            "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"},
        },
        "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}],
    }
    names = {"plural": "widgets", "singular": "widget", "kind": "Widget", "shortNames": ["wd"]}
    body = {"group": GROUP, "scope": "Namespaced", "names": names, "versions": [version]}
    name = f"widgets.{GROUP}"
    space.create({"kind": "CustomResourceDefinition", "metadata": {"name": name}, "spec": body})
    space.until("CustomResourceDefinition", name, lambda found: established(found))
    until(
        lambda: space.subject.dynamic.request("get", f"/apis/{WIDGET}").to_dict()["resources"],
        lambda found: len(found) == 3,
        what="the API server to serve the new resource",
        seconds=PATIENCE,
    )
    space.subject.dynamic.resources.invalidate_cache()
    yield
    space.delete("CustomResourceDefinition", name)


def established(found: Object) -> bool:
    conditions = found.get("status", {}).get("conditions") or ()
    return any(each["type"] == "Established" and each["status"] == "True" for each in conditions)


def widget(name: str, **spec: object) -> Object:
    return {"apiVersion": WIDGET, "kind": "Widget", "metadata": {"name": name}, "spec": spec}


def refused(space: Space, body: Object) -> str:
    with pytest.raises(ApiException) as caught:
        space.create(body)
    return str(json.loads(caught.value.body)["message"])


def test_a_custom_resource_has_defaults_and_a_table_of_its_own(space: Space, widgets: None) -> None:
    made = space.create(widget("one", size=3, unknown="dropped"))
    assert made["spec"] == {"size": 3, "most": 9}
    header, row = space.kubectl("get", f"wd.{GROUP}").splitlines()
    assert (header.split(), row.split()) == (["NAME", "SIZE"], ["one", "3"])


def test_a_custom_resource_is_held_to_its_schema_and_rules(space: Space, widgets: None) -> None:
    assert "spec.size: Required value" in refused(space, widget("empty", most=1))
    assert "spec.size: Invalid value: 0" in refused(space, widget("small", size=0))
    assert "size is over most" in refused(space, widget("large", size=10))


def test_the_status_of_a_custom_resource_is_apart_from_its_spec(space: Space, widgets: None) -> None:
    space.create(widget("status", size=1))
    resource = space.resource("Widget", WIDGET)
    options = {"name": "status", "namespace": space.name, "content_type": "application/merge-patch+json"}
    resource.patch(body={"status": {"seen": 1}}, **options)
    assert "status" not in space.get("Widget", "status", WIDGET)
    resource.subresources["status"].patch(body={"status": {"seen": 1}, "spec": {"size": 5}}, **options)
    found = space.get("Widget", "status", WIDGET)
    assert (found["status"], found["spec"]["size"], found["metadata"]["generation"]) == ({"seen": 1}, 1, 1)


def test_a_custom_resource_can_be_scaled(space: Space, widgets: None) -> None:
    space.create(widget("scaled", size=1, replicas=1))
    space.kubectl("scale", f"widgets.{GROUP}/scaled", "--replicas=4")
    assert space.get("Widget", "scaled", WIDGET)["spec"]["replicas"] == 4


@pytest.fixture(scope="module")
def webhooks(space: Space) -> Iterator[None]:
    """A pod that admits and changes ConfigMaps of this namespace that carry a label."""
    certificate, key = pair(f"hooks.{space.name}.svc")
    data = {"tls.crt": certificate.decode(), "tls.key": key.decode()}
    probe = {"httpGet": {"path": "/", "port": 443, "scheme": "HTTPS"}, "periodSeconds": 1}
    mounted = {"volumeMounts": [{"name": "pair", "mountPath": "/pair"}], "readinessProbe": probe, "image": PYTHON}
    space.create(
        {"kind": "Secret", "metadata": {"name": "pair"}, "type": "kubernetes.io/tls", "stringData": data},
        python("hooks", SERVER, container=mounted, volumes=[{"name": "pair", "secret": {"secretName": "pair"}}]),
        service("hooks", port=443),
    )
    space.ready("hooks")
    rule = {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}
    common: Object = {
        "rules": [rule],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": space.name}},
        "objectSelector": {"matchLabels": {"hooked": "yes"}},
    }
    name, authority = unique("contract"), base64.b64encode(certificate).decode()
    kinds = ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")
    for kind, path in zip(kinds, ("/mutate", "/validate"), strict=True):
        client = {"service": {"namespace": space.name, "name": "hooks", "path": path}, "caBundle": authority}
        hook = {"name": "hooks.contract.test", "clientConfig": client} | common
        space.create({"kind": kind, "metadata": {"name": name}, "webhooks": [hook]})
    try:
        yield
    finally:
        for kind in kinds:
            space.delete(kind, name)


def pair(host: str) -> tuple[bytes, bytes]:
    """A certificate of its own authority for a host, and its key, both as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "contract")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return made.public_bytes(serialization.Encoding.PEM), key.private_bytes(*form)


def hooked(name: str, **data: str) -> Object:
    return {"kind": "ConfigMap", "metadata": {"name": name, "labels": {"hooked": "yes"}}, "data": data}


def test_a_webhook_in_a_pod_changes_objects(space: Space, webhooks: None) -> None:
    made = until(
        lambda: space.create(hooked("changed", colour="red"), query_params=[("dryRun", "All")]),
        lambda found: "added" in found["data"],
        what="the API server to ask the webhook",
        seconds=PATIENCE,
    )
    assert made["data"] == {"colour": "red", "added": "by the webhook"}


def test_a_webhook_in_a_pod_refuses_objects(space: Space, webhooks: None) -> None:
    def refusal() -> str:
        try:
            space.create(hooked("refused", colour="mauve"), query_params=[("dryRun", "All")])
        except ApiException as error:
            return str(json.loads(error.body)["message"])
        return ""

    said = until(refusal, bool, what="the API server to ask the webhook", seconds=PATIENCE)
    assert said == 'admission webhook "hooks.contract.test" denied the request: mauve is not a colour'


def test_a_policy_of_cel_refuses_objects(space: Space) -> None:
    name = unique("contract")
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}
    selector = {"matchLabels": {"kubernetes.io/metadata.name": space.name}}
    match = {"resourceRules": [rule], "namespaceSelector": selector}
    check = {"expression": "!object.metadata.name.startsWith('bad-')", "message": "bad names are bad"}
    version = "admissionregistration.k8s.io/v1"
    policy = {"matchConstraints": match, "validations": [check]}
    binding = {"policyName": name, "validationActions": ["Deny"]}
    common = {"apiVersion": version, "metadata": {"name": name}}
    space.create(common | {"kind": "ValidatingAdmissionPolicy", "spec": policy})
    space.create(common | {"kind": "ValidatingAdmissionPolicyBinding", "spec": binding})

    def refusal() -> str:
        try:
            space.create({"kind": "ConfigMap", "metadata": {"name": "bad-one"}}, query_params=[("dryRun", "All")])
        except ApiException as error:
            return str(json.loads(error.body)["message"])
        return ""

    try:
        said = until(refusal, bool, what="the policy to be in force", seconds=PATIENCE)
        assert "bad names are bad" in said
    finally:
        for kind in ("ValidatingAdmissionPolicyBinding", "ValidatingAdmissionPolicy"):
            space.resource(kind, version).delete(name=name)
