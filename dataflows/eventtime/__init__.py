"""Event time: watermarks, lateness, sessions, windows, deduplication. Pure."""
