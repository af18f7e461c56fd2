"""The frauds, bots and misuse of a simulation, described for the ground truth."""

from __future__ import annotations

import numpy as np

from dataflows.contracts.timestamps import format_timestamps
from services.simulator.bots import Run
from services.simulator.customers import Devices
from services.simulator.frauds import KINDS
from services.simulator.identifiers import uuids
from services.simulator.misuse import KINDS as MISUSES
from services.simulator.misuse import Misuse
from services.simulator.orders import Ledger
from services.simulator.rhythm import Ints
from services.simulator.settings import HOUR_US
from services.simulator.tables import terminal_ids, user_ids
from services.simulator.truth import Bot, FraudCase, MisuseCase
from services.simulator.visits import Rows, Shop


def instant(us: int) -> str:
    """An instant in microseconds as RFC 3339."""
    return format_timestamps(np.array([us], dtype=np.int64))[0]


def describe_frauds(
    shop: Shop, devices: Devices, cases: Rows, ledger: Ledger, delivered: Ints, salt: int
) -> list[FraudCase]:
    """The cases by time, with those of their payments (rows of the ledger) that were delivered."""
    users, terminals = user_ids(shop), terminal_ids()
    order = np.argsort(ledger.rows["event_us"][delivered], kind="stable")
    rows = delivered[order]
    of_case = ledger.rows["case"][rows]
    found = []
    for case in np.argsort(cases["start_us"], kind="stable").tolist():
        own = rows[of_case == case]
        if len(own) == 0:
            continue
        paid = ledger.rows[own]
        device, terminal = int(cases["device"][case]), int(cases["terminal"][case])
        found.append(
            FraudCase(
                kind=KINDS[cases["kind"][case]],
                user_ids=list(dict.fromkeys(users[user] for user in paid["user"].tolist())),
                device_ids=[] if device < 0 else [devices.records[device].device_id],
                terminal_ids=[] if terminal < 0 else [terminals[terminal]],
                transaction_ids=uuids(own, salt),
                first_at=instant(int(paid["event_us"][0])),
                last_at=instant(int(paid["event_us"][-1])),
            )
        )
    return found


def describe_bots(shop: Shop, devices: Devices, runs: list[Run]) -> list[Bot]:
    """The accounts that clicked by themselves, as planned: what comes after the end included."""
    users = user_ids(shop)
    found = []
    for account in sorted({run.account for run in runs}):
        own = [run for run in runs if run.account == account]
        longest = max(own, key=lambda run: run.clicks * run.pause_us)
        found.append(
            Bot(
                user_id=users[len(shop.customers) + account],
                user_agent=devices.records[devices.first_bot + account].user_agent,
                clicks=sum(run.clicks for run in own),
                runs=len(own),
                longest_run_clicks=longest.clicks,
                longest_run_hours=round(longest.clicks * longest.pause_us / HOUR_US, 2),
            )
        )
    return found


def describe_misuse(shop: Shop, devices: Devices, misused: Misuse) -> list[MisuseCase]:
    """The cases by time, as planned: what comes after the end included."""
    users, found = user_ids(shop), []
    for case, (kind, device) in enumerate(
        zip(misused.kind.tolist(), misused.device.tolist(), strict=True)
    ):
        own = misused.clicks[misused.case == case]
        found.append(
            MisuseCase(
                kind=MISUSES[kind],
                user_ids=list(dict.fromkeys(users[user] for user in own["user"].tolist())),
                device_ids=[devices.records[device].device_id],
                clicks=len(own),
                first_at=instant(int(own["event_us"].min())),
                last_at=instant(int(own["event_us"].max())),
            )
        )
    return sorted(found, key=lambda each: each.first_at)
