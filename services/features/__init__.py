"""`tidegate features`: rows of features for training, from anyone's events."""
