"""The CRI runtime of one node: pod networks, bubblewrap containers, images as local environments."""
