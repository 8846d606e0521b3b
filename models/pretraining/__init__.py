"""Pretraining: what is masked, what is predicted, and the loop that trains an encoder."""
