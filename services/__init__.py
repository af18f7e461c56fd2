"""Everything that is not a dataflow, one package a service."""
