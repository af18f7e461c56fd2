"""`tidegate models`: a folder of models, and which of each is the champion."""
