"""Model variants: sensors, token schemes, the registry, encoders and their weights."""
