"""Tidegate's streaming product: contracts, event time, features, detection, connectors, runtime, flows."""
