"""The calls that a holder makes to its own API server, as administrator.

Place: controlplane.py waits for the cluster with `get`; fleet.py changes nodes with `send`. Limits: one connection per
call of these; ordinary clients are too slow to import for this (the start of a cluster would wait for them).
"""

import contextlib
import http.client
import json
import ssl
from typing import Any

from clusters.api import ClusterError
from clusters.embedded import network
from clusters.embedded.pki import Pair

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
_SECONDS = 5.0


class Conflict(ClusterError):
    """Somebody else changed the object meanwhile."""


class Api:
    """The API server of this holder."""

    def __init__(self, authority: str, client: Pair) -> None:
        """`authority` is the file of the certificate that the server's is signed with."""
        self._tls = ssl.create_default_context(cafile=authority)
        self._tls.load_cert_chain(client.cert, client.key)

    def get(self, path: str) -> bytes | None:
        """Body of a 200 answer, else None."""
        return get(self._connect(), path)

    def create(self, *objects: dict[str, Any]) -> None:
        """Makes objects, by one connection, for each handshake costs; one that is there already is no error."""
        with contextlib.closing(self._connect()) as connection:
            for wanted in objects:
                with contextlib.suppress(Conflict):
                    _send(connection, "POST", place(wanted), wanted, "application/json")

    def send(self, method: str, path: str, body: object, kind: str = "application/json") -> dict[str, Any]:
        """The object that the API server answers with.

        Raises:
            Conflict: the object has another resourceVersion by now.
            ClusterError: it does not answer, or refuses.
        """
        with contextlib.closing(self._connect()) as connection:
            return _send(connection, method, path, body, kind)

    def _connect(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection("127.0.0.1", network.API_PORT, context=self._tls, timeout=_SECONDS)


def _send(connection: http.client.HTTPConnection, method: str, path: str, body: object, kind: str) -> dict[str, Any]:
    try:
        connection.request(method, path, json.dumps(body), {"Content-Type": kind})
        answer = connection.getresponse()
        said: dict[str, Any] = json.loads(answer.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise ClusterError(
            f"the API server did not answer {method} {path}: {error}; it may be starting again, so try once more"
        ) from error
    if answer.status == http.client.CONFLICT:
        raise Conflict(f"the API server refused {method} {path}: {said.get('message')}")
    if answer.status >= http.client.BAD_REQUEST:
        raise ClusterError(f"the API server refused {method} {path}: {said.get('message')}")
    return said


def place(wanted: dict[str, Any]) -> str:
    """The path to which an object is posted."""
    version, kind = wanted["apiVersion"], wanted["kind"].lower()
    namespace = wanted["metadata"].get("namespace")
    within = f"/namespaces/{namespace}" if namespace else ""
    plural = f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}es" if kind.endswith("s") else f"{kind}s"
    return f"/{'apis' if '/' in version else 'api'}/{version}{within}/{plural}"


def get(connection: http.client.HTTPConnection, path: str) -> bytes | None:
    """Body of a 200 answer on a new connection, which is closed then; else None."""
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return body if answer.status == http.client.OK else None
