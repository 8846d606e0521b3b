"""SatMAE, multi-spectral: three groups of bands, a class token (arXiv 2207.08051)."""
