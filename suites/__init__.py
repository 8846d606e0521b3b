"""Benchmark suites: one YAML file each, and the data sets they name."""
