"""Payments to be scored, and models that read the amount alone, so that their scores are known."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from flow_bench import Bench

from dataflows.detection.models import Card, Model, digest_of, linear_model
from dataflows.detection.payment_model import NAME
from dataflows.detection.registry import Registry
from dataflows.features.catalogue import CUSTOMER
from dataflows.features.columns import from_rows
from dataflows.flows.payments import REQUESTS, PaymentColumns, Request, feature_rows

START = datetime(2026, 5, 1, 12, tzinfo=UTC)


def request_of(*payments: dict[str, Any]) -> bytes:
    """A request to score the payments; what they leave out is null."""
    count = len(payments)
    objects = set(Request.__struct_fields__) - {"times_us", "cents", "features", "declared"}
    times_us = [round(payment["time"].timestamp() * 1e6) for payment in payments]
    columns = PaymentColumns(
        times_us=np.array(times_us),
        cents=np.array([payment["cents"] for payment in payments]),
        objects={name: [payment.get(name) for payment in payments] for name in objects},
        features=feature_rows(from_rows(CUSTOMER.specs, [{}] * count)),
        declared={},
    )
    return columns.request(0, count)


def request(number: int, euros: int, device: str | None = None) -> bytes:
    """A payment a minute."""
    payment = {"transaction_id": f"t{number}", "user_id": f"u{number}", "device_id": device}
    time = START + timedelta(minutes=number)
    return request_of(payment | {"cents": euros * 100, "time": time})


def pay(bench: Bench, count: int, euros: int = 2_000) -> None:
    """More payments behind what there is."""
    there = bench.log.offsets(REQUESTS, 0)[1]
    values: list[bytes | None] = [request(there + n, euros) for n in range(count)]
    bench.publish(REQUESTS, values)


def scores(bench: Bench) -> list[dict[str, Any]]:
    return [json.loads(record.value) for record in bench.records("scores") if record.value]


def keep_model(models: Path, weight: float, precision: float = 0.5) -> str:
    """Puts one into the folder; its version."""
    model = linear_model(("total_amount",), np.array([weight]), np.zeros(1), 0.0)
    found = {"average_precision": {"value": precision, "low": precision, "high": precision}}
    card = card_of(model, found)
    Registry(models).add(card, model.arrays())
    return card.version


def card_of(model: Model, metrics: dict[str, Any]) -> Card:
    """Of a model of payments that nobody trained."""
    return Card(
        name=NAME,
        family=model.family,
        features=model.features,
        spec="here",
        spec_version="0",
        arrays=digest_of(model.arrays()),
        trained={},
        metrics=metrics,
        thresholds={},
        calibration=[],
        importance={},
    ).sealed()


def score_of(weight: float, euros: float) -> float:
    """What such a model thinks of a payment."""
    return round(1 / (1 + math.exp(-weight * euros)), 6)
