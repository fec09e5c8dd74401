"""A small lab for each test of the gates."""

from pathlib import Path

import pytest

from tests.gates.small_lab import SmallLab


@pytest.fixture
def small(tmp_path: Path) -> SmallLab:
    return SmallLab(tmp_path)
