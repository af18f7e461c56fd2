"""Rules, scores, decisions and the reasons for them. Pure."""
