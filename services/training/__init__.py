"""`tidegate train`: from rows of features to a model with its card."""
