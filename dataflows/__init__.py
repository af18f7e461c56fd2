"""The streaming product: contracts, event time, features, detection, connectors, runtime, flows."""

import os
from hashlib import blake2b
from pathlib import Path


def _kernel_cache() -> Path:
    """Where numba keeps compiled kernels: a folder for each state of their sources.

    Numba looks at one file's time stamp only, and stumbles over what an older version cached.
    """
    package = Path(__file__).parent
    digest = blake2b(digest_size=8)
    for file in sorted(package.rglob("*.py")):
        source = file.read_bytes()
        if b"njit" in source:
            digest.update(source)
    return package.parent / ".cache" / f"kernels-{digest.hexdigest()}"


if "NUMBA_CACHE_DIR" not in os.environ and os.access(Path(__file__).parents[1], os.W_OK):
    os.environ["NUMBA_CACHE_DIR"] = str(_kernel_cache())
