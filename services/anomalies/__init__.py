"""`tidegate detect score`: anyone's series from a file through the anomaly detector."""
