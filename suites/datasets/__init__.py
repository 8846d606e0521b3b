"""Data sets: one module each; every one of them yields the same samples."""
