"""Half of capacity for minutes on end: latencies, and whether memory, keys and descriptors stay flat."""
