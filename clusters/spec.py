"""Reads a lab's cluster.yaml.

Place: `gpulab.py` and `conftest.py` read it before they launch a cluster. Limits: types and names; what a backend can
make of it, the backend says.
"""

from pathlib import Path

import msgspec
import yaml

from clusters.api import ClusterSpec, SpecError


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
