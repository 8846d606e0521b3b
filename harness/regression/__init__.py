"""Is this run worse than the baseline? Baselines as files, verdicts, and how they are told."""
