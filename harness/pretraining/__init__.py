"""Pretraining as a command: data, progress, probes, tracking and the card around the loop."""
