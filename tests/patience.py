"""How long tests wait for what must happen.

Place: the limit of every wait and of every program in tests, but of those that take minutes and where the limit itself
is what is tested. Limits: none of speed, on purpose: a machine that others use may stand still for half a minute, and
only a hang takes longer. So what a test waits to see gone must last longer than this by itself.
"""

PATIENCE = 180.0  # seconds
