"""The GPUs of a node: which there are, how they fail, what they are doing, and who holds them."""
