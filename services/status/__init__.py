"""What every slot has done, read from the log: it answers whether or not anything runs."""
