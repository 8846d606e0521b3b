"""Probes: what is trained on frozen embeddings to score them. One module per probe."""
