"""The flows: one file is one diagram."""
