"""Galileo: one token per group of related bands, over many sensors (arXiv 2502.09356)."""
