"""A run as one HTML page: what was judged, what was measured, with plots of the evidence, and what to look at next.

Place: `gpulab report` and `--report` write it. Limits: it reads a run's folder and judges nothing; nothing here is
imported before a report is asked for, as drawing needs a second to be loaded.
"""
