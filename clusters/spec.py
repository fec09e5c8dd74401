"""Reads a lab's cluster.yaml, and a node from words on the command line.

Place: `commands` and `conftest.py` read it before they launch a cluster. Limits: types and names; what a backend can
make of it, the backend says.
"""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import yaml

from clusters.api import ClusterSpec, NodeSpec, SpecError


def read(file: Path) -> ClusterSpec:
    """The cluster that `file` describes.

    Raises:
        SpecError: it is not there, not YAML, or not a description of a cluster.
    """
    try:
        return msgspec.convert(yaml.safe_load(file.read_text()), ClusterSpec)
    except OSError as error:
        raise SpecError(f"the cluster's description {file} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SpecError(f"the cluster's description {file} is not YAML: {error}") from error
    except msgspec.ValidationError as error:
        raise SpecError(f"the cluster's description {file} is wrong: {error}") from error


def node(name: str, labels: Sequence[str], taints: Sequence[str], gpus: str | None, *, spot: bool) -> NodeSpec:
    """A node from words: labels as KEY=VALUE, taints as KEY=VALUE:EFFECT or KEY:EFFECT, GPUs as MODEL:COUNT.

    Raises:
        SpecError: a word is not of that form.
    """
    described: dict[str, object] = {
        "name": name,
        "labels": dict(_pair(word, "=", "label KEY=VALUE") for word in labels),
    }
    described["taints"] = [_taint(word) for word in taints]
    described["capacityType"] = "spot" if spot else "on-demand"
    if gpus is not None:
        model, count = _pair(gpus, ":", "GPUs MODEL:COUNT")
        described["gpus"] = {"model": model, "count": int(count) if count.isdecimal() else count}
    try:
        return msgspec.convert(described, NodeSpec)
    except msgspec.ValidationError as error:
        raise SpecError(f"the node {name!r} is described wrongly: {error}") from error


def _taint(word: str) -> dict[str, str]:
    first, effect = _pair(word, ":", "taint KEY=VALUE:EFFECT")
    key, _, value = first.partition("=")
    return {"key": key, "value": value, "effect": effect}


def _pair(word: str, sign: str, form: str) -> tuple[str, str]:
    first, found, second = word.rpartition(sign)
    if not (found and first and second):
        raise SpecError(f"asked for {word!r}, which is not of the form {form}")
    return first, second
