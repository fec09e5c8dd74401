"""A verdict in the formats of course systems, CI and monitoring: one module a format, `formats` knows them all.

Place: the plugin and `gpulab export` write them. Limits: they only read a verdict; none of them judges.
"""
