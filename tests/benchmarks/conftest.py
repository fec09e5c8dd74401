"""Lets tests import `benchmarks`, which is run from the project's root and not installed."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))
