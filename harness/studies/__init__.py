"""Studies: many trainings on the same data, in resumable pieces, then ranked together."""
