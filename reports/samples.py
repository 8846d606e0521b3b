"""Per-sample rows, a part at a time: a large suite's are more than memory need hold.

Results that were just made or loaded have them in a frame; those of a suite run have them in
their file. What analyses them asks for one task or variant after another. It must know nothing of
where the file lies.
"""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

Samples = pl.DataFrame | pl.LazyFrame
"""Rows of `reports.table.SAMPLE_SCHEMA`, in memory or to be read."""


def parts_by(samples: Samples, column: str) -> Callable[[str], pl.DataFrame | None]:
    """The rows with a value in a column, by that value; None where there are none.

    A frame is split once; of what is to be read nothing is kept.
    """
    if isinstance(samples, pl.DataFrame):
        parts = samples.partition_by(column, as_dict=True)
        return {str(key[0]): frame for key, frame in parts.items()}.get

    def read(value: str) -> pl.DataFrame | None:
        found = samples.filter(pl.col(column) == value).collect()
        return None if found.is_empty() else found

    return read


def is_empty(samples: Samples) -> bool:
    """Whether there is no row: an imported table has none."""
    return samples.lazy().head(1).collect().is_empty()
