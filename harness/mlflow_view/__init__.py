"""MLflow's only home: how a suite run looks there, and how its results come back.

Everything here is a view of `SuiteResults`; the store is the truth. Imported only by
`harness.tracking` and where results are fetched, because MLflow takes seconds to import.
"""
