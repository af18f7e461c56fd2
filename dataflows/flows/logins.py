"""What travels between the hops of behaviour: logins, and how far time has come for whoever saw
them."""

from __future__ import annotations

from typing import Annotated

import msgspec
import numpy as np

from dataflows.connectors.records import Records
from dataflows.decodable import make_decodable
from dataflows.flows.decoding import Events, Timed, decode_events
from dataflows.runtime import fates

LOGINS = "logins"
MOST_PARTITIONS = 4_096


class Login(Timed, kw_only=True):
    """A login, failed or not, as partition `partition` of `partitions` saw it when its watermark
    was `watermark_us`; without a device it tells the time alone."""

    event_type: str = ""
    user_id: str | None = None
    device_id: str | None = None
    watermark_us: Annotated[int, msgspec.Meta(ge=-(2**62), le=2**62)]
    partition: Annotated[int, msgspec.Meta(ge=0)]
    partitions: Annotated[int, msgspec.Meta(ge=1, le=MOST_PARTITIONS)]


make_decodable(Login)
_decoder = msgspec.json.Decoder(Login)


def decode_logins(records: Records) -> Events[Login]:
    """Logins, as the first hop wrote them."""
    logins = decode_events(_decoder, records)
    for row in np.flatnonzero(logins.fates == fates.GOOD).tolist():
        login = logins.events[row]
        assert login is not None
        if login.partition >= login.partitions:
            logins.reject(row, "invalid", f"$.partition: there are {login.partitions}")
    return logins
