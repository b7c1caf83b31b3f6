"""Sections of the report: each holds its tables, its figures and what is said of them."""
