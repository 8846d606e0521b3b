"""Is this run worse than the baseline? Baselines as files, verdicts, and how they are told.

The two limits stand here, so that the command line can name them without loading the rest.
"""

MARGIN = 0.02
"""Loss of score that counts as a regression, in the metric's units."""

SKETCH_TOLERANCE = 2e-5
"""Relative distance of two sketches of the same weights. Rounding (another instruction set,
number of threads or batch) moves a sketch by less than 1e-6, half precision by 2e-4 and more."""
