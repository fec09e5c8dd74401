"""Lets tests import what labs mount into their pods, where it lies flat in one folder."""

import sys
from pathlib import Path

sys.path += [str(folder) for folder in sorted((Path(__file__).resolve().parents[2] / "labs").glob("*/pods"))]
