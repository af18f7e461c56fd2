"""A month of a shop's life through every flow, in two minutes, with proof at the end."""
