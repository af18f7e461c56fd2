"""Gold, table by table, against plain Python over what was delivered; it shares no SQL with it."""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from built_warehouse import Built
from warehouse_shop import CONTRACTS, PRODUCTS, Delivery, Document

ATTRIBUTES = ("email", "full_name", "city", "country", "segment", "marketing_opt_in", "deleted_at")


def at(document: Document, field: str = "event_timestamp") -> datetime:
    return datetime.fromisoformat(document[field])


def day(document: Document) -> date:
    return at(document).date()


class Truth:
    """Each event once, by its first copy; and what follows from them."""

    def __init__(self, deliveries: Iterable[Delivery]):
        self._places: Counter[str] = Counter()
        arrivals: dict[str, list[tuple[Any, Document]]] = defaultdict(list)
        for delivery in deliveries:
            place = (delivery.arrived_at, delivery.topic, self._places[delivery.topic])
            self._places[delivery.topic] += 1
            arrivals[delivery.table].append((place, delivery.document))
        self.arrivals = arrivals
        self.clicks = self._first("clickstream")
        self.payments = self._first("transactions")
        self.steps = self._first("customer_support")
        self.profiles = self._first("customer_profiles")
        self.labels = self._first("labels")
        self.catalogue = self._first("product_catalog")
        self.sessions = [
            session
            for session in self._last_revisions("sessions", "session_id")
            if session["superseded_by"] is None
        ]
        self.incidents = [
            incident
            for incident in self._last_revisions("incidents", "incident_id")
            if incident["events"]
        ]
        self.versions = self._versions()

    def _first(self, source: str) -> list[Document]:
        key = CONTRACTS[source].dedup_key
        first: dict[str, tuple[Any, Document]] = {}
        for place, document in self.arrivals[source]:
            known = first.get(document[key])
            if known is None or place < known[0]:
                first[document[key]] = (place, document)
        return [document for _, document in first.values()]

    def _last_revisions(self, table: str, key: str) -> list[Document]:
        last: dict[str, Document] = {}
        for _, document in self.arrivals[table]:
            known = last.setdefault(document[key], document)
            if document["revision"] > known["revision"]:
                last[document[key]] = document
        return list(last.values())

    def _versions(self) -> dict[str, list[tuple[datetime, Document]]]:
        """Of each customer, from when on which profile held."""
        by_user: dict[str, list[Document]] = defaultdict(list)
        for profile in self.profiles:
            by_user[profile["user_id"]].append(profile)
        versions = {}
        for user, profiles in by_user.items():
            order = sorted(profiles, key=lambda p: (at(p), p["arrived_at"]))
            # Ties of time: silver takes the last in the log, which here is the last to arrive.
            closed = order[-1]["deleted_at"] is not None
            instants = {at(profile): profile for profile in order}
            kept: list[tuple[datetime, Document]] = []
            for instant, profile in sorted(instants.items()):
                shown = profile | {"city": profile["address"]["city"]}
                shown["country"] = profile["address"]["country"]
                if closed:
                    shown |= {"email": None, "full_name": None, "city": None}
                content = {name: shown[name] for name in ATTRIBUTES}
                if not kept or kept[-1][1] != content:
                    kept.append((instant, content))
            versions[user] = kept
        return versions

    def version(self, user: str, instant: datetime) -> int:
        """The number of the version that held; 0 for none."""
        return sum(start <= instant for start, _ in self.versions.get(user, ()))

    def verdict(self, payment: str) -> str | None:
        mine = [label for label in self.labels if label["transaction_id"] == payment]
        order = sorted(mine, key=lambda label: label["label_id"])
        order.sort(key=lambda label: (at(label), at(label, "arrived_at")), reverse=True)
        return order[0]["verdict"] if order else None

    @property
    def purchases(self) -> list[Document]:
        return [payment for payment in self.payments if payment["status"] != "declined"]


@pytest.fixture(scope="module")
def truth(built: Built) -> Truth:
    return Truth(built.shop.deliveries)


def test_every_event_is_there_once_with_the_customer_as_of_then(built: Built, truth: Truth) -> None:
    found = built.rows(
        "SELECT source, event_id, event_timestamp, event_date, e.user_id, version, lateness "
        "FROM gold.fct_events e JOIN gold.dim_customers_scd2 USING (customer_key)"
    )
    sources = (
        ("clickstream", "event_id", truth.clicks),
        ("transactions", "transaction_id", truth.payments),
    )
    expected = [
        (
            *(source, e[key], at(e), day(e), e["user_id"]),
            *(truth.version(e["user_id"], at(e)), e["lateness"]),
        )
        for source, key, events in sources
        for e in events
    ]
    assert sorted(found) == sorted(expected)
    assert len({row[5] for row in found}) > 2


def test_customers_have_the_versions_that_they_had(built: Built, truth: Truth) -> None:
    found = built.rows(
        "SELECT user_id, version, valid_from, valid_to, is_current, email, full_name, city, "
        "country, segment, marketing_opt_in, deleted_at FROM gold.dim_customers_scd2 "
        "WHERE customer_key <> 'unknown' ORDER BY user_id, version"
    )
    expected = []
    for user, versions in sorted(truth.versions.items()):
        ends = [start for start, _ in versions[1:]] + [None]
        for number, ((start, shown), end) in enumerate(zip(versions, ends, strict=True), 1):
            deleted = shown["deleted_at"]
            shown = shown | {"deleted_at": deleted and datetime.fromisoformat(deleted)}
            email = shown.pop("email")
            row = (user, number, start, end, end is None, email is not None)
            expected.append(row + tuple(shown[n] for n in ATTRIBUTES if n not in ("email",)))
    hashed = [(*row[:5], row[5] is not None, *row[6:]) for row in found]
    masked = [_masked(row) for row in expected]
    assert hashed == masked


def _masked(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Names and cities are stored masked."""
    return (*row[:6], *(_mask(text) for text in row[6:8]), *row[8:])


def _mask(text: str | None) -> str | None:
    return None if text is None else text[0] + "*" * (len(text) - 1)


def test_sessions_are_the_last_revisions(built: Built, truth: Truth) -> None:
    found = built.rows(
        "SELECT session_id, revision, ended_at, event_count, funnel_stage, has_purchased, "
        "duration_seconds, event_date FROM gold.fct_sessions"
    )
    assert sorted(found) == sorted(
        (
            *(s["session_id"], s["revision"], at(s, "ended_at"), s["event_count"]),
            *(s["funnel_stage"], s["funnel_stage"] == "purchase"),
            (at(s, "ended_at") - at(s, "started_at")).total_seconds(),
            at(s, "started_at").date(),
        )
        for s in truth.sessions
    )


def test_payments_have_their_items_score_and_verdict(built: Built, truth: Truth) -> None:
    scores = {s["transaction_id"]: s for _, s in truth.arrivals["scores"]}
    found = built.rows(
        "SELECT transaction_id, total_amount, item_count, is_purchase, score, decision, label "
        "FROM gold.fct_transactions"
    )
    assert sorted(found, key=str) == sorted(
        (
            (
                *(p["transaction_id"], Decimal(p["total_amount"]), len(p.get("items", ()))),
                p["status"] != "declined",
                scores.get(p["transaction_id"], {}).get("score"),
                scores.get(p["transaction_id"], {}).get("decision"),
                truth.verdict(p["transaction_id"]),
            )
            for p in truth.payments
        ),
        key=str,
    )
    items = built.rows(
        "SELECT transaction_id, item_number, product_id, quantity, unit_price, amount "
        "FROM gold.fct_transaction_items"
    )
    assert sorted(items) == sorted(
        (
            *(p["transaction_id"], number, item["product_id"], item["quantity"]),
            *(Decimal(item["unit_price"]), Decimal(item["amount"])),
        )
        for p in truth.payments
        for number, item in enumerate(p.get("items", ()), 1)
    )


def test_alerts_say_who_was_right(built: Built, truth: Truth) -> None:
    found = built.rows("SELECT alert_id, first_reason, outcome FROM gold.fct_alerts")
    assert sorted(found) == sorted(
        (a["alert_id"], "high_amount", truth.verdict(a["transaction_id"]) or "unknown")
        for _, a in truth.arrivals["alerts"]
    )


def test_incidents_are_the_last_word_of_each(built: Built, truth: Truth) -> None:
    key = bytes.fromhex((built.directory / "pii.key").read_text())

    def pseudonym(device: str) -> str:
        return hmac.new(key, device.encode(), hashlib.sha256).hexdigest()

    expected = []
    for incident in truth.incidents:
        user, device, text = (incident[name] for name in ("user_id", "device_id", "text"))
        version = truth.version(user, at(incident, "started_at")) if user else 0
        length = at(incident, "ended_at") - at(incident, "started_at")
        expected.append(
            (
                *(incident["incident_id"], incident["behaviour"], incident["severity"], user),
                device and pseudonym(device),
                *(version, at(incident, "started_at"), at(incident, "started_at").date()),
                *(length.total_seconds(), incident["events"], incident["is_over"]),
                text.replace(device, pseudonym(device)) if device else text,
            )
        )
    found = built.rows(
        "SELECT incident_id, behaviour, severity, i.user_id, device_id, version, started_at, "
        "event_date, duration_seconds, event_count, is_over, text "
        "FROM gold.fct_incidents i JOIN gold.dim_customers_scd2 USING (customer_key)"
    )
    assert sorted(found, key=str) == sorted(expected, key=str)
    moved = built.rows(
        "SELECT incident_id FROM bronze.incidents GROUP BY 1 HAVING count(DISTINCT event_date) > 1"
    )
    assert moved


def test_tickets_go_from_their_first_step_to_their_last(built: Built, truth: Truth) -> None:
    tickets: dict[str, list[Document]] = defaultdict(list)
    for step in sorted(truth.steps, key=at):
        tickets[step["ticket_id"]].append(step)
    expected = []
    for ticket, steps in tickets.items():
        times = defaultdict(list)
        for step in steps:
            times[step["event_type"]].append(at(step))
        solved, reopened = times["resolved"], times["reopened"]
        rated = [step["satisfaction"] for step in steps if step.get("satisfaction")]
        expected.append(
            (
                *(ticket, steps[0]["user_id"], at(steps[0]), at(steps[-1])),
                bool(solved) and not (reopened and reopened[-1] >= solved[-1]),
                len(times["message"]),
                rated[-1] if rated else None,
            )
        )
    found = built.rows(
        "SELECT ticket_id, user_id, first_step_at, last_step_at, is_resolved, message_count, "
        "satisfaction FROM gold.fct_support"
    )
    assert sorted(found, key=str) == sorted(expected, key=str)


def test_a_day_in_figures(built: Built, truth: Truth) -> None:
    found = built.rows(
        "SELECT event_date, click_count, user_count, session_count, purchasing_session_count, "
        "payment_count, purchase_count, revenue, purchase_in_other_currency_count, fraud_count, "
        "alert_count, incident_count, late_count, merged_count, conversion "
        "FROM gold.fct_daily_summary"
    )
    days = {day(e) for e in (*truth.clicks, *truth.payments, *truth.steps)}
    days |= {at(s, "started_at").date() for s in truth.sessions}
    expected = []
    for today in sorted(days):
        clicks = [e for e in truth.clicks if day(e) == today]
        payments = [e for e in truth.payments if day(e) == today]
        bought = [e for e in truth.purchases if day(e) == today]
        sessions = [s for s in truth.sessions if at(s, "started_at").date() == today]
        buying = sum(s["funnel_stage"] == "purchase" for s in sessions)
        euros = [Decimal(e["total_amount"]) for e in bought if e["currency"] == "EUR"]
        lateness = Counter(e["lateness"] for e in (*clicks, *payments))
        alerts = [a for _, a in truth.arrivals["alerts"] if day(a) == today]
        incidents = [i for i in truth.incidents if at(i, "started_at").date() == today]
        frauds = sum(truth.verdict(e["transaction_id"]) == "fraud" for e in payments)
        expected.append(
            (
                *(today, len(clicks), len({e["user_id"] for e in (*clicks, *payments)})),
                *(len(sessions), buying, len(payments), len(bought), sum(euros)),
                *(len(bought) - len(euros), frauds, len(alerts), len(incidents)),
                *(lateness["late"], lateness["buffered"], buying / len(sessions)),
            )
        )
    assert sorted(found) == expected


def test_customers_buy_as_they_do(built: Built, truth: Truth) -> None:
    last_day = max(map(day, truth.purchases))
    expected = []
    for currency in ("EUR", "USD"):
        mine: dict[str, list[Document]] = defaultdict(list)
        for payment in truth.purchases:
            if payment["currency"] == currency:
                mine[payment["user_id"]].append(payment)
        measures = {
            user: (
                -(last_day - max(map(day, bought))).days,
                len(bought),
                sum(Decimal(payment["total_amount"]) for payment in bought),
            )
            for user, bought in mine.items()
        }
        for user, (recency, frequency, monetary) in measures.items():
            scores = [fifth(measures[user][n], [m[n] for m in measures.values()]) for n in range(3)]
            items = sum(len(payment.get("items", ())) for payment in mine[user])
            days = sorted(map(day, mine[user]))
            row = (user, currency, -recency, frequency, monetary, items)
            expected.append((*row, (days[-1] - days[0]).days, *scores))
    found = built.rows(
        "SELECT user_id, currency, recency_days, frequency, monetary, item_count, active_days, "
        "recency_score, frequency_score, monetary_score FROM gold.fct_user_purchases"
    )
    assert sorted(found) == sorted(expected)


def fifth(value: Any, of: list[Any]) -> int:
    """Which fifth of all a value falls into, by the share of the others that are smaller."""
    below, others = sum(other < value for other in of), len(of) - 1
    return min(5, 1 + 5 * below // others) if others else 1


def test_visitors_look_at_what_they_look_at(built: Built, truth: Truth) -> None:
    looks: Counter[tuple[str, str]] = Counter()
    seen: set[tuple[str, str]] = set()
    for click in truth.clicks:
        if click["event_type"] in ("product_view", "category_view", "add_to_cart"):
            seen.add((click["user_id"], click["category"]))
            looks[click["user_id"], click["category"]] += click["event_type"] != "add_to_cart"
    found = built.rows("SELECT user_id, category, view_count FROM gold.fct_user_browsing")
    assert sorted(found) == sorted((*pair, looks[pair]) for pair in seen)
    preferred = built.rows(
        "SELECT user_id, max(view_count), max(view_count) FILTER (is_preferred), "
        "count(*) FILTER (is_preferred) FROM gold.fct_user_browsing GROUP BY user_id"
    )
    assert all(most == of_preferred and one == 1 for _, most, of_preferred, one in preferred)


def test_visitors_come_as_far_as_they_come(built: Built, truth: Truth) -> None:
    by_user: dict[str, list[Document]] = defaultdict(list)
    for click in sorted(truth.clicks, key=at):
        by_user[click["user_id"]].append(click)
    expected = []
    for user, clicks in by_user.items():
        for category in {c["category"] for c in clicks if c["event_type"].endswith("_view")
                         and c.get("category")}:  # fmt: skip
            views = ("product_view", "category_view")
            steps = [_first_time(clicks, views, None, category)]
            steps.append(_first_time(clicks, ("add_to_cart",), steps[-1], category))
            steps.append(steps[-1] and _first_time(clicks, ("checkout_start",), steps[-1], None))
            bought = [
                at(payment)
                for payment in truth.purchases
                if payment["user_id"] == user
                and any(PRODUCTS[i["product_id"]] == category for i in payment.get("items", ()))
            ]
            reached = steps[-1]
            steps.append(reached and min((t for t in bought if t >= reached), default=None))
            expected.append((user, category, *steps, steps[-1] is not None))
    found = built.rows(
        "SELECT user_id, category, viewed_at, carted_at, checkout_at, purchased_at, is_converted "
        "FROM gold.fct_user_journey"
    )
    assert sorted(found, key=str) == sorted(expected, key=str)
    assert any(row[-1] for row in found)


def _first_time(
    clicks: list[Document], kinds: tuple[str, ...], after: datetime | None, category: str | None
) -> datetime | None:
    times = (
        at(click)
        for click in clicks
        if click["event_type"] in kinds
        and (category is None or click.get("category") == category)
        and (after is None or at(click) >= after)
    )
    return next(times, None)


def test_everybody_is_a_user(built: Built, truth: Truth) -> None:
    found = built.rows(
        "SELECT user_id, has_profile, is_deleted, first_seen_at, last_seen_at FROM gold.dim_users"
    )
    seen: dict[str, list[datetime]] = defaultdict(list)
    for event in (*truth.clicks, *truth.payments, *truth.steps):
        seen[event["user_id"]].append(at(event))
    for session in truth.sessions:
        seen[session["user_id"]].append(at(session, "started_at"))
    for incident in truth.incidents:
        if incident["user_id"] is not None:
            seen[incident["user_id"]].append(at(incident, "started_at"))
    closed = {user for user, v in truth.versions.items() if v[-1][1]["deleted_at"] is not None}
    assert sorted(found, key=str) == sorted(
        (
            (
                *(user, user in truth.versions, user in closed),
                min(seen[user], default=None),
                max(seen[user], default=None),
            )
            for user in {*seen, *truth.versions}
        ),
        key=str,
    )


def test_products_are_as_they_are_sold_now(built: Built, truth: Truth) -> None:
    now: dict[str, Document] = {}
    for change in sorted(truth.catalogue, key=lambda c: (at(c), at(c, "arrived_at"))):
        now[change["product_id"]] = change
    found = built.rows(
        "SELECT product_id, name, category, price FROM gold.dim_products WHERE NOT is_from_seed"
    )
    assert sorted(found) == sorted(
        (key, p["name"], p["category"], Decimal(p["price"])) for key, p in now.items()
    )


def test_dates_are_whole_years(built: Built) -> None:
    found = built.rows(
        "SELECT date_day, calendar_year, calendar_quarter, calendar_month, day_of_month, iso_week, "
        "iso_weekday, is_weekend FROM gold.dim_date ORDER BY date_day"
    )
    first = date(2026, 1, 1)
    expected = []
    for today in (first + timedelta(n) for n in range(365)):
        _, week, weekday = today.isocalendar()
        row = (today, today.year, (today.month + 2) // 3, today.month, today.day, week, weekday)
        expected.append((*row, weekday > 5))
    assert found == expected


def test_devices_are_keyed_pseudonyms(built: Built, truth: Truth) -> None:
    key = bytes.fromhex((built.directory / "pii.key").read_text())
    found = built.rows("SELECT event_id, device_id FROM silver.stg_clickstream")
    assert sorted(found) == sorted(
        (
            click["event_id"],
            hmac.new(key, click["device"]["device_id"].encode(), hashlib.sha256).hexdigest(),
        )
        for click in truth.clicks
    )


def test_what_is_quarantined_is_visible(built: Built) -> None:
    found = built.rows("SELECT source, reason FROM silver.stg_quarantined ORDER BY reason")
    assert found == [("clickstream", "missing_user"), ("clickstream", "too_late")]
    letters = built.rows("SELECT reason, record_value FROM silver.stg_dead_letters")
    assert ("not_json", b"\xff\x00") in letters
    assert len(letters) == 3


def test_extras_are_kept(built: Built, truth: Truth) -> None:
    found = built.rows("SELECT extras FROM silver.stg_clickstream WHERE extras IS NOT NULL")
    assert found == [('{"experiment":"ü"}',)] * sum("extras" in click for click in truth.clicks)
