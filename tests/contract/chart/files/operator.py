"""An operator: what each Greeting says is told in its status, and a finalizer lets it say goodbye."""

import os
from typing import Any

import kopf

GROUP = os.environ["GROUP"]


@kopf.on.create(GROUP, "v1", "greetings")
@kopf.on.update(GROUP, "v1", "greetings")
def greet(spec: Any, patch: Any, **_: Any) -> None:
    """Writes the greeting into the status."""
    patch.status["said"] = f"hello {spec['text']}"


@kopf.on.delete(GROUP, "v1", "greetings")
def part(name: str, **_: Any) -> None:
    """Says goodbye in the log."""
    print(f"goodbye {name}", flush=True)  # noqa: T201 - the pod's log
