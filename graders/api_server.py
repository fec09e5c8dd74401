"""What the official Kubernetes client raises where the cluster's API server refuses or is silent, and that in a line.

Place: `pods` asks through it, and the wiring for pytest tells by it that a check was ended by the cluster. Limits: it
tells nothing of why; the body of a refusal, which may be long, is left out.
"""

import kubernetes
import urllib3.exceptions

API_ERRORS = (kubernetes.client.ApiException, urllib3.exceptions.HTTPError)


def answer_of(error: Exception) -> str:
    """What the API server answered, in a line, without the headers and the body of its answer."""
    if isinstance(error, kubernetes.client.ApiException):
        return f"the API server answers {error.status} {error.reason}"
    return f"the API server does not answer ({error})"
