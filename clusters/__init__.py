"""Cluster backends: each produces a kubeconfig with a record of its traits, and nothing more."""
