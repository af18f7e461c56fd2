"""The streaming product: contracts, event time, features, detection, connectors, runtime, flows."""

import os
from hashlib import blake2b
from pathlib import Path

_HERE = Path(__file__).parent
_PREFIX = "kernels-"


def kernel_cache() -> Path:
    """Where numba keeps compiled kernels: a folder for each state of the code they are made from.

    Numba looks at the source of one function only: not at what it calls, nor at the constants it
    takes from elsewhere. So a folder belongs to one content of all packages that have kernels. A
    process makes out its own: the one that started it may be of other sources.
    """
    digest = blake2b(digest_size=8)
    for package in sorted(path for path in _HERE.iterdir() if path.is_dir()):
        sources = [file.read_bytes() for file in sorted(package.glob("*.py"))]
        if any(b"njit" in source for source in sources):
            digest.update(b"\0".join(sources))
    return _caches() / f"{_PREFIX}{digest.hexdigest()}"


def _caches() -> Path:
    if given := os.environ.get("NUMBA_CACHE_DIR"):
        return Path(given).parent if Path(given).name.startswith(_PREFIX) else Path(given)
    if os.access(_HERE.parent, os.W_OK):
        return _HERE.parent / ".cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tidegate"


os.environ["NUMBA_CACHE_DIR"] = str(kernel_cache())
