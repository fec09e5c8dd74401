"""Helm, bound to one cluster: pyhelm3 with the helm program that matches the cluster.

Place: `conftest.py` hands a `Helm` to labs. Limits: charts from local folders; it does not wait for pods, so that who
waits can say what for. pyhelm3 joins lists of several value sets where Helm replaces them, so values come as one set.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyhelm3
import pyhelm3.errors

from clusters.api import ClusterError

_REFUSED = (pyhelm3.errors.FailedToRenderChartError, pyhelm3.errors.InvalidResourceError)
_REFUSALS = ("values don't meet the specifications of the schema", "values.schema.json")


class HelmFailed(ClusterError):
    """Helm could not do what was asked; the message has Helm's own words."""


class ValuesRefused(HelmFailed):
    """The chart's schema refuses the values, or Kubernetes refuses the objects that the chart makes of them."""


class Helm:
    """Installs releases in one cluster."""

    def __init__(self, program: Path, kubeconfig: Path) -> None:
        self._client = pyhelm3.Client(executable=str(program), kubeconfig=kubeconfig)

    def install(self, release: str, chart: Path, values: Mapping[str, Any], namespace: str) -> None:
        """Installs or upgrades a release; returns once the API server has its objects.

        Raises:
            ValuesRefused: the chart does not take these values.
            HelmFailed: anything else.
        """
        asyncio.run(self._install(release, chart, values, namespace))

    async def _install(self, release: str, chart: Path, values: Mapping[str, Any], namespace: str) -> None:
        try:
            found = await self._client.get_chart(chart)
            await self._client.install_or_upgrade_release(
                release, found, dict(values), namespace=namespace, create_namespace=False
            )
        except pyhelm3.errors.Error as error:
            kind = ValuesRefused if _refused(error) else HelmFailed
            raise kind(f"asked Helm to install the chart {chart.name} as {release}: {_words(error)}") from error


def _refused(error: pyhelm3.errors.Error) -> bool:
    return isinstance(error, _REFUSED) or any(words in str(error) for words in _REFUSALS)


def _words(error: pyhelm3.errors.Error) -> str:
    """What Helm said, once: it repeats its last message after "Error:", and logs with "level="."""
    said = str(error).strip()
    message = said.rpartition("\nError: ")[2] if "\nError: " in said else said.removeprefix("Error: ")
    return "\n".join(line for line in message.splitlines() if not line.startswith("level="))
