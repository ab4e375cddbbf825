"""The worker: claims evaluations of one lane, runs each in a fresh child, commits its result."""
