"""What turns out about payments: chargebacks a week later, analysts' verdicts in between."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from services.simulator.orders import DECLINED, REFUNDED, Ledger
from services.simulator.rhythm import OFFICE_DAYS, OFFICE_HOURS, instants
from services.simulator.settings import DAY_US, SimulationSettings
from services.simulator.visits import Rows

LABEL_ROW = np.dtype(
    [("event_us", "i8"), ("payment", "i8"), ("verdict", "i1"), ("origin", "i1"), ("note", "i1")]
)
VERDICTS = ("fraud", "legitimate")
ORIGINS = ("chargeback", "analyst", "customer")
FRAUD, LEGITIMATE = range(2)
CHARGEBACK, ANALYST, CUSTOMER = range(3)


def make_labels(rng: Generator, settings: SimulationSettings, ledger: Ledger) -> Rows:
    """Rows in time order, in whole milliseconds; `payment` is a row of the ledger.

    Every fraud that was not declined is charged back 7 days later, give or take one and a half;
    the ones due after the last day are not known yet. The mix's rest are honest payments that an
    analyst looked at.
    """
    payments = ledger.rows
    robbed = np.flatnonzero((payments["case"] >= 0) & (payments["status"] != DECLINED))
    bad = np.zeros(len(robbed), LABEL_ROW)
    wait = np.clip(rng.normal(7.0, 1.5, len(robbed)), 3.0, 14.0)
    bad["payment"], bad["verdict"] = robbed, FRAUD
    bad["event_us"] = payments["event_us"][robbed] + (wait * DAY_US).astype(np.int64)
    by_customer = rng.random(len(robbed)) < 0.15
    bad["origin"] = np.where(by_customer, CUSTOMER, CHARGEBACK)
    bad["note"] = np.where(by_customer, 1, np.where(rng.random(len(robbed)) < 0.5, 0, 4))

    honest = np.flatnonzero((payments["case"] < 0) & (payments["status"] != REFUNDED))
    wanted = max(0, settings.records_of("labels") - len(bad))
    seen = rng.permutation(honest)[:wanted]
    good = np.zeros(len(seen), LABEL_ROW)
    good["payment"], good["verdict"], good["origin"] = seen, LEGITIMATE, ANALYST
    good["note"] = rng.integers(1, 4, len(seen))
    # Analysts look at what has happened, in office hours.
    looked = instants(rng, settings, len(seen), OFFICE_HOURS, OFFICE_DAYS)
    delay = rng.integers(DAY_US // 24, 2 * DAY_US, len(seen))
    good["event_us"] = np.maximum(looked, payments["event_us"][seen] + delay)

    rows = np.concatenate((bad, good))
    rows["event_us"] -= rows["event_us"] % 1_000
    rows = rows[rows["event_us"] < settings.end_us]
    return rows[np.argsort(rows["event_us"], kind="stable")]
