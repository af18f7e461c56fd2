"""`tidegate explain`: why a payment was decided as it was, and whether that can be repeated."""
