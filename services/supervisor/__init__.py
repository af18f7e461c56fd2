"""Runs every slot of Tidegate as worker processes and keeps them running."""
