"""How long tests wait for what must happen.

Place: the limit of every wait and of every program in tests, but where the limit itself is what is tested. Limits:
none of speed, on purpose: a machine that others use may stand still for half a minute, and only a hang takes longer.
"""

PATIENCE = 180.0  # seconds
