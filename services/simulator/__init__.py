"""A believable online shop: seeded streams of all six sources, with faults whose truth is known.

`simulate.simulate(SimulationSettings(start=...))` gives a `Simulation`: its `chunks()` are the
records in arrival order, its `truth` says what an exact ingest must count.
"""
