"""Bundles: the state of stopped slots in a folder or bucket, to move or to restore them.

`shelf` is the place, `lease` says who may work on a slot's bundles, `store` reads a slot's state,
`bundle` is one file, `transfer` exports and restores.
"""
