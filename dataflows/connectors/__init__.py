"""The edge: logs that hold records, and the lake that keeps them for good."""
