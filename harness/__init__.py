"""The engine: a suite goes in, ranked results come out."""
