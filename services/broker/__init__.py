"""A Kafka of one's own: for `make demo BUS=kafka`, tests and benchmarks. Not for production."""
