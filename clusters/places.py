"""Where caches and state live.

Place: every path outside the project is made here. Limits: the XDG base directory rules, nothing cleverer. A cache
holds only what can be made again and may be shared for reading; state belongs to one user.
"""

from collections.abc import Mapping
from pathlib import Path


def _base(env: Mapping[str, str], variable: str, default: str) -> Path:
    named = Path(env.get(variable, ""))
    return named if named.is_absolute() else Path(env.get("HOME") or Path.home()) / default


def cache(env: Mapping[str, str]) -> Path:
    """The cache folder: GPULAB_CACHE, else `gpulab` in the user's cache folder."""
    if env.get("GPULAB_CACHE"):
        return Path(env["GPULAB_CACHE"]).absolute()
    return _base(env, "XDG_CACHE_HOME", ".cache") / "gpulab"


def own_images(env: Mapping[str, str]) -> Path:
    """The folder of the files of images (*.toml) that a user adds to every cluster of theirs."""
    return _base(env, "XDG_STATE_HOME", ".local/state") / "gpulab" / "images"


def clusters(env: Mapping[str, str]) -> Path:
    """The folder that holds one folder of state per cluster."""
    return _base(env, "XDG_STATE_HOME", ".local/state") / "gpulab" / "clusters"
