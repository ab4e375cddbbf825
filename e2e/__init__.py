"""Scenarios on a real cluster, and how to start one from package registries alone."""
