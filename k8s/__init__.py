"""Kubernetes: manifests, and the code that serves them."""
