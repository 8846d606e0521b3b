"""Probes: what is trained on an encoder to score it, frozen or not. One module per probe."""
