"""Who may do what: RBAC, impersonation, ServiceAccount tokens, reviews, Pod Security, certificates."""

import base64
import json
import operator
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from kubernetes.client.exceptions import ApiException

from clusters.process import CommandFailed
from clusters.wait import until
from tests.contract.conftest import new_space
from tests.contract.subject import PYTHON, Object, Space, Subject, pod, unique
from tests.patience import PATIENCE

READER = {"rules": [{"apiGroups": [""], "resources": ["pods", "configmaps"], "verbs": ["get", "list"]}]}
RBAC = "rbac.authorization.k8s.io"


@pytest.fixture(scope="module")
def reader(space: Space) -> str:
    """The user name of a ServiceAccount that may read pods and ConfigMaps here, once the authorizer knows of it."""
    subject = {"kind": "ServiceAccount", "name": "reader", "namespace": space.name}
    space.create(
        {"kind": "ServiceAccount", "metadata": {"name": "reader"}},
        {"kind": "Role", "metadata": {"name": "reader"}} | READER,
        {"kind": "RoleBinding", "metadata": {"name": "reader"}, "subjects": [subject],
         "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": "reader"}},
    )  # fmt: skip
    name = f"system:serviceaccount:{space.name}:reader"
    until_can(space, name, "list", "pods")
    return name


def can(space: Space, user: str, verb: str, resource: str, namespace: str = "") -> bool:
    plural, _, group = resource.partition(".")
    attributes = {"namespace": namespace or space.name, "verb": verb, "resource": plural, "group": group}
    asked = {"user": user, "resourceAttributes": attributes}
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "metadata": {}, "spec": asked}
    return bool(space.create(body)["status"]["allowed"])


def until_can(space: Space, user: str, verb: str, resource: str) -> None:
    """Returns once a new role counts: the authorizer hears of it by a watch."""
    what = f"{user} to be allowed to {verb} {resource}"
    until(lambda: can(space, user, verb, resource), bool, what=what, seconds=PATIENCE)


def token(space: Space, account: str, **spec: object) -> str:
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    made = space.resource("ServiceAccount").subresources["token"].create(name=account, namespace=space.name, body=body)
    return str(made.status.token)


def claims(text: str) -> Object:
    part = text.split(".")[1]
    return dict(json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))))


def review(space: Space, text: str, **spec: object) -> Object:
    body = {"kind": "TokenReview", "metadata": {"name": unique("review")}, "spec": {"token": text} | spec}
    return dict(space.create({"apiVersion": "authentication.k8s.io/v1"} | body)["status"])


def test_a_role_allows_what_it_says_and_nothing_more(space: Space, reader: str) -> None:
    assert can(space, reader, "list", "pods")
    assert not can(space, reader, "delete", "pods")
    assert not can(space, reader, "list", "secrets")
    assert not can(space, reader, "list", "pods", "kube-system")
    assert space.kubectl("auth", "can-i", "list", "pods", f"--as={reader}") == "yes\n"
    with pytest.raises(CommandFailed) as caught:
        space.kubectl("get", "secrets", f"--as={reader}")
    assert f'User "{reader}" cannot list resource "secrets" in API group "" in the namespace "{space.name}"' in str(
        caught.value.output
    )


def test_nobody_grants_what_they_do_not_have(space: Space, reader: str) -> None:
    allowed = {"rules": [{"apiGroups": [RBAC], "resources": ["roles"], "verbs": ["create"]}]}
    binding = {"apiGroup": RBAC, "kind": "Role", "name": "granter"}
    subject = {"kind": "User", "name": "granter", "apiGroup": RBAC}
    space.create(
        {"kind": "Role", "metadata": {"name": "granter"}} | allowed,
        {"kind": "RoleBinding", "metadata": {"name": "granter"}, "subjects": [subject], "roleRef": binding},
    )
    until_can(space, "granter", "create", f"roles.{RBAC}")
    with pytest.raises(CommandFailed, match="attempting to grant RBAC permissions not currently held"):
        space.kubectl("create", "role", "more", "--verb=get", "--resource=secrets", "--as=granter")


def test_tokens_are_bound_to_an_audience_and_a_time(space: Space, reader: str) -> None:
    text = token(space, "reader", audiences=["contract.test"], expirationSeconds=600)
    said = claims(text)
    assert (said["aud"], said["exp"] - said["iat"], said["sub"]) == (["contract.test"], 600, reader)
    assert review(space, text, audiences=["contract.test"])["user"]["username"] == reader
    refused = review(space, text)
    assert not refused.get("authenticated")
    assert "invalid" in refused["error"]


def test_a_token_dies_with_the_pod_it_is_bound_to(space: Space, reader: str) -> None:
    space.create(pod("bound", "sleep 600", serviceAccountName="reader"))
    space.phase("bound", "Running")
    uid = space.get("Pod", "bound")["metadata"]["uid"]
    reference = {"apiVersion": "v1", "kind": "Pod", "name": "bound", "uid": uid}
    # Two, for the API server remembers for some seconds what a token was good for.
    before, after = (token(space, "reader", boundObjectRef=reference, expirationSeconds=each) for each in (600, 900))
    assert review(space, before)["authenticated"] is True
    space.delete("Pod", "bound")
    space.gone("Pod", "bound")
    dead = "the token to be refused"
    until(lambda: review(space, after).get("authenticated", False), operator.not_, what=dead, seconds=PATIENCE)


ASK = """
import json, ssl, sys, urllib.request, urllib.error
folder = "/var/run/secrets/kubernetes.io/serviceaccount/"
token, space = open(folder + "token").read(), open(folder + "namespace").read()
trust = ssl.create_default_context(cafile=folder + "ca.crt")
for what in sys.argv[1:]:
    url = f"https://kubernetes.default.svc/api/v1/namespaces/{space}/{what}"
    request = urllib.request.Request(url, headers={"Authorization": "Bearer " + token})
    try: print(urllib.request.urlopen(request, context=trust, timeout=10).status)
    except urllib.error.HTTPError as error: print(error.code)
"""


def test_a_pod_speaks_to_the_api_as_its_own_account(space: Space, reader: str) -> None:
    space.create(
        pod(
            "speaks", "python3", "-c", ASK, "pods", "secrets", container={"image": PYTHON}, serviceAccountName="reader"
        ),
        pod("default", "python3", "-c", ASK, "pods", container={"image": PYTHON}),
        pod("mute", "ls /var/run/secrets/kubernetes.io 2>/dev/null || echo none", automountServiceAccountToken=False),
    )
    assert space.output("speaks").split() == ["200", "403"]
    assert space.output("default").split() == ["403"]
    assert space.output("mute").split() == ["none"]


def test_a_projected_token_has_the_audience_that_the_pod_asks_for(space: Space, reader: str) -> None:
    source = {"serviceAccountToken": {"path": "token", "audience": "contract.test", "expirationSeconds": 900}}
    volume = {"name": "token", "projected": {"sources": [source]}}
    mounted = {"volumeMounts": [{"name": "token", "mountPath": "/own"}]}
    said = claims(space.run("projects", "cat /own/token", container=mounted, volumes=[volume]).strip())
    assert (said["aud"], said["exp"] - said["iat"]) == (["contract.test"], 900)
    assert said["kubernetes.io"]["pod"]["name"] == "projects"


def test_nobody_gets_in_without_credentials(subject: Subject) -> None:
    where = subject.api.configuration
    trust = ssl.create_default_context(cafile=where.ssl_ca_cert)
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=trust), urllib.request.ProxyHandler({}))
    with pytest.raises(urllib.error.HTTPError) as caught:
        opener.open(f"{where.host}/api/v1/namespaces", timeout=PATIENCE)
    caught.value.close()
    assert caught.value.code in (401, 403)


@pytest.fixture(scope="module")
def restricted(subject: Subject) -> Iterator[Space]:
    """A namespace that takes restricted pods only."""
    yield from new_space(subject, "restricted", **{"pod-security.kubernetes.io/enforce": "restricted"})


def test_a_restricted_namespace_refuses_pods_with_rights(restricted: Space) -> None:
    with pytest.raises(ApiException) as caught:
        restricted.create(pod("rights", "true"))
    said = json.loads(caught.value.body)["message"]
    assert 'violates PodSecurity "restricted:latest"' in said
    assert "allowPrivilegeEscalation != false" in said


@pytest.mark.trait("service account tokens for pods of other users")
def test_a_restricted_namespace_takes_a_modest_pod(restricted: Space) -> None:
    own = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    whole = {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}}
    said = restricted.run("modest", "id -u", container={"securityContext": own}, securityContext=whole)
    assert said.strip() == "1000"


def test_run_as_non_root_is_held_to(restricted: Space) -> None:
    own = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    whole = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    restricted.create(pod("root", "true", container={"securityContext": own}, securityContext=whole))
    found = restricted.until(
        "Pod", "root", lambda found: waiting(found).get("reason") == "CreateContainerConfigError", "a refusal"
    )
    assert "container has runAsNonRoot and image will run as root" in waiting(found)["message"]


def waiting(found: Object) -> Object:
    return dict((found["status"].get("containerStatuses") or [{}])[0].get("state", {}).get("waiting") or {})
