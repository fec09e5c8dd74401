"""Graders: drive load, keep evidence, judge; they know a cluster only by its kubeconfig and an entry."""
