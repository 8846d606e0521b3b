"""What a trained encoder has to beat: image statistics, random projections, random convolutions."""
