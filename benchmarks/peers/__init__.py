"""Tidegate beside other stream processors: the same bytes, the same broker, every answer checked.

`workloads` says what there is to do and what is right (asked of DuckDB), `systems` who does it and
how it is told to, `environments` makes each peer's own locked environment, `harness` runs and
measures one, `report` makes the table. Each peer's program and lock are in the folder of its name.
"""
