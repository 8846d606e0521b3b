"""Published results: tables that others measured, imported, cleaned and ranked like with like.

    columns.py      the plain schema: what a table of published results may say
    reading.py      a CSV or Parquet file -> its cells as text, with their lines
    formats.py      whose table is it? torchgeo-bench's, or the plain schema -> plain text rows
    cleaning.py     text rows -> checked results: numbers, units, intervals
    duplicates.py   results given twice: repeated, or contradicting
    vocabulary.py   names that differ between tables: models, metrics, probes, bands, data sets
    library.py      imported tables in the store, by content
    tasks.py        what two results must share to be compared
    entrants.py     the models of the tables, each with its results by task
    grids.py        what the stated cost betrays about the input a model was given
    matching.py     the tasks that all chosen models share, and why not the others
    notes.py        what a careful reader must be told
    table.py        chosen models on the tasks they share -> `SuiteResults`
    kept.py         such a ranking in the store, like any other run
    shown.py        the same in the terminal
    beside.py       the same, beside own results

Nothing here computes a score, and nothing is imputed: what cannot be compared is left out,
with its reason.
"""
