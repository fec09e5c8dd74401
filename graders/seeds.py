"""Independent random streams from one seed, one for each concern, so that changing one thing shifts no other. Pure.

Place: schedules and workloads draw from them. Limits: for reproducible load, never for secrets.
"""

import hashlib
import random


def source(seed: int, concern: str) -> random.Random:
    """The random stream of a concern, such as "arrivals".

    Seeded with SHA-256 of the seed and the concern's name, so that neighbouring seeds and other names give unrelated
    streams; with seed + 1 for the next concern, two runs would share one. The same on every machine.
    """
    key = hashlib.sha256(f"{seed}/{concern}".encode()).digest()
    return random.Random(int.from_bytes(key))  # noqa: S311 - reproducible load, not a secret
