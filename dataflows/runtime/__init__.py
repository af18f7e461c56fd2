"""Slots on Bytewax: recovery, lease, marker, signals, metrics, and the configuration they obey."""
