"""Stands in for the target that dbt runs on."""

type = "duckdb"
