"""`tidegate rules backtest`: what a rule would have done to past payments."""
