"""Trainings as launches of torchrun, by an executor. One module per launcher."""
