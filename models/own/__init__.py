"""A user's own model: one class, bands in, tokens out, held to one contract (docs/own-model.md)."""
