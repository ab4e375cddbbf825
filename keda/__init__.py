"""Scaling from zero: one KEDA object per lane, and the code that applies the same manifests to processes."""
