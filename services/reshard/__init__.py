"""More partitions for a source, with nothing lost and nothing repeated."""
