"""Published results: tables that others measured, imported, cleaned and ranked like with like.

    columns.py      the plain schema: what a table of published results may say
    reading.py      a CSV or Parquet file -> its cells as text, with their lines
    formats.py      whose table is it? torchgeo-bench's, or the plain schema -> plain text rows
    cleaning.py     text rows -> checked rows: numbers, fractions, duplicates
    vocabulary.py   names that differ between tables: models, metrics, probes, bands, data sets
    library.py      imported tables in the store, by content
    matching.py     like with like: which results may be compared
    grids.py        what the stated cost betrays about the input a model was given
    table.py        chosen models on the tasks they share -> `SuiteResults`
    beside.py       the same, beside own results

Nothing here computes a score, and nothing is imputed: what cannot be compared is left out,
with its reason.
"""
