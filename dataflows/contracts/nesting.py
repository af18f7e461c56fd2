"""How deeply JSON text nests, without parsing it."""

import numpy as np
from numba import njit

MAX_DEPTH = 64  # far below what any parser's stack allows, far above what a contract needs

_QUOTE, _BACKSLASH = 34, 92
_OPEN_LIST, _CLOSE_LIST, _OPEN_OBJECT, _CLOSE_OBJECT = 91, 93, 123, 125


def nesting_depth(text: bytes) -> int:
    """The greatest number of brackets open at once, outside strings; 0 when it cannot be much.

    Of text that is not JSON it is at least the depth a parser reaches before it gives up.
    """
    if text.count(b"[") + text.count(b"{") <= MAX_DEPTH:
        return 0
    return int(_depth(np.frombuffer(text, np.uint8)))


@njit(cache=True, nogil=True)
def _depth(text):  # type: ignore[no-untyped-def]
    depth = deepest = np.int64(0)
    in_string = escaped = False
    for character in text:
        if in_string:
            if escaped:
                escaped = False
            elif character == _BACKSLASH:
                escaped = True
            elif character == _QUOTE:
                in_string = False
        elif character == _QUOTE:
            in_string = True
        elif character in (_OPEN_LIST, _OPEN_OBJECT):
            depth += 1
            deepest = max(deepest, depth)
        elif character in (_CLOSE_LIST, _CLOSE_OBJECT):
            depth -= 1
    return deepest
