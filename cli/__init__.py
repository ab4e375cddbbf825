"""The `executor` command: the composition root. Commands import what they need when they run."""
