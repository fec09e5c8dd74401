"""What the commands of `gpulab` do: thin, a module for each kind of them; `gpulab.py` puts them together."""
