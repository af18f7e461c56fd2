"""Past payments with the features that the stream gave them, for questions about the past."""
