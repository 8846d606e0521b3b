"""Ranked results as figures, tables and pages: pure functions of a table."""
