"""The embedded backend: unmodified Kubernetes without Docker and without root; only the runtime is ours."""
