"""CROMA: one token per 8 x 8 patch for all bands; optical, radar or both (arXiv 2311.00566)."""
