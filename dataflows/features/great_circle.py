"""Distances on the globe."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Angles = NDArray[np.float64]

_EARTH_KM: Final = 6371.0088


def great_circle_km(
    latitude: Angles, longitude: Angles, latitude_2: Angles, longitude_2: Angles
) -> NDArray[np.float64]:
    """Kilometres between two places each, given in radians; shapes are broadcast."""
    chord = (
        np.sin((latitude - latitude_2) / 2) ** 2
        + np.cos(latitude) * np.cos(latitude_2) * np.sin((longitude - longitude_2) / 2) ** 2
    )
    kilometres: NDArray[np.float64] = 2 * _EARTH_KM * np.arcsin(np.sqrt(np.clip(chord, 0.0, 1.0)))
    return kilometres
