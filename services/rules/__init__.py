"""`tidegate rules plan|apply|history`: which rules are in force on the stream."""
