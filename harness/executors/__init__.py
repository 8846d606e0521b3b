"""Executors: where cells run. One module per engine."""
