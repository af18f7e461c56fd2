"""Tables: round trips against the csv module, places of what is malformed, and the mapping."""

from __future__ import annotations

import csv
import io
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from publishing import Published, contract, publish, publish_text

from services.publisher import PublishError

TICKET = ["event_id", "ticket_id", "event_type", "event_timestamp", "user_id", "subject", "body"]
CELL = st.text(
    st.characters(exclude_categories=["Cs"]) | st.sampled_from(list('",;\r\n\t |')),
    max_size=8,
)


def _written(rows: list[list[str]], **dialect: Any) -> str:
    text = io.StringIO()
    csv.writer(text, **dialect).writerows(rows)
    return text.getvalue()


def _refused(content: str, **options: Any) -> str:
    with pytest.raises(PublishError) as caught:
        publish_text("transactions", content, format="csv", **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def _orders(rows: str, **options: Any) -> Published:
    header = "transaction_id,user_id,event_timestamp,total_amount,currency\n"
    return publish_text("transactions", header + rows, format="csv", **options)


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.tuples(CELL, CELL), min_size=1, max_size=8),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
)
def test_what_the_csv_module_writes_arrives(
    cells: list[tuple[str, str]], separator: str, line_end: str, quoting: int
) -> None:
    # The module leaves a carriage return bare where it is no part of its line end, and so writes
    # what nobody can read back.
    bare = quoting == csv.QUOTE_MINIMAL and "\r" not in line_end
    assume(not (bare and any("\r" in text for pair in cells for text in pair)))
    rows = [
        [f"e{number}", "t1", "opened", "2026-01-01T00:00:00Z", "u1", *texts]
        for number, texts in enumerate(cells)
    ]
    text = _written([TICKET, *rows], delimiter=separator, lineterminator=line_end, quoting=quoting)
    done = publish_text("customer_support", text, format="csv")
    assert done.report.rejected == 0
    assert [[record.get(name, "") for name in TICKET[5:]] for record in done.records] == [
        list(texts) for texts in cells
    ]
    assert [record["event_id"] for record in done.records] == [row[0] for row in rows]


@settings(deadline=None, max_examples=100)
@given(
    st.lists(
        st.tuples(
            st.decimals(0, 10**9, places=2, allow_nan=False),
            st.integers(10**10, 253_402_300_799_999).map(str).filter(lambda text: len(text) != 14),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_amounts_and_instants_survive_exactly(rows: list[tuple[Decimal, str]]) -> None:
    lines = [f"t{n},u1,{ms},{amount:f},EUR" for n, (amount, ms) in enumerate(rows)]
    done = _orders("\n".join(lines), order="file")
    decoded = contract("transactions").decode([*done.values])
    assert decoded.failures == []
    assert decoded.times_us.tolist() == [int(ms) * 1000 for _, ms in rows]
    assert [Decimal(r["total_amount"]) for r in done.records] == [amount for amount, _ in rows]


def test_values_become_what_the_contract_asks_for() -> None:
    text = _written(
        [
            [
                "event_id",
                "product_id",
                "ts",
                "name",
                "category",
                "price",
                "currency",
                "stock",
                "active",
                "tags",
                "attributes.colour",
                "shelf",
            ],
            [
                "e1",
                "p1",
                "2026-01-01",
                "Cup",
                "kitchen",
                "12.5",
                "EUR",
                "3.0",
                "Yes",
                '["a","b"]',
                "red",
                "7",
            ],
            [
                "e2",
                "p2",
                "2026-01-01T02:00+02:00",
                "Jar",
                "kitchen",
                "7",
                "EUR",
                "",
                "",
                "",
                "",
                "",
            ],
        ]
    )
    done = publish_text("product_catalog", text, format="csv", mapping=["event_timestamp=ts"])
    assert done.records == [
        {
            "event_id": "e1",
            "product_id": "p1",
            "event_timestamp": "2026-01-01T00:00:00.000000Z",
            "name": "Cup",
            "category": "kitchen",
            "price": "12.50",
            "currency": "EUR",
            "stock": 3,
            "active": True,
            "tags": ["a", "b"],
            "attributes": {"colour": "red"},
            "shelf": "7",
        },
        {
            "event_id": "e2",
            "product_id": "p2",
            "event_timestamp": "2026-01-01T00:00:00.000000Z",
            "name": "Jar",
            "category": "kitchen",
            "price": "7.00",
            "currency": "EUR",
        },
    ]
    assert contract("product_catalog").decode([*done.values]).failures == []


@pytest.mark.parametrize(
    ("row", "column", "words"),
    [
        ("t1,u1,2026-01-01,12.345,EUR", 18, "'12.345' has more than two decimals"),
        ("t1,u1,2026-01-01,twelve,EUR", 18, "'twelve' is not an amount"),
        ('t1,"u,1",2026-01-01,"1,5",EUR', 21, "'1,5' is not an amount"),
        ("t1,u1,2026-01-01,1e999,EUR", 18, "too large"),
        ("t1,u1,2026-01-01,1e99999999,EUR", 18, "is not an amount"),
        ("t1,u1,01.02.2026,1,EUR", 7, "'01.02.2026' is not a time"),
        ("t1,u1,2026-02-30,1,EUR", 7, "'2026-02-30' is not a time"),
        ("t1,u1,20260201,1,EUR", 7, "--timestamp-format %Y%m%d"),
        ("t1,u1,1767225600,1,EUR", 7, "--timestamp-format %s"),
        ("t1,u1,2026-01-01,1", 19, "4 cells where the header has 5"),
        ("t1,u1,2026-01-01,1,EUR,x,y", 24, "7 cells where the header has 5"),
        ('t1,"u1"x,2026-01-01,1,EUR', 8, "expected ',' after the closing quote, found 'x'"),
        ('t1,"u1,2026-01-01,1,EUR', 4, "this quote is never closed"),
        ("ü,u1,2026-01-01,x,EUR", 17, "'x' is not an amount"),
        (b"t1,\xc3\xbc\xff,2026-01-01,1,EUR", 5, "byte 0xff is not UTF-8"),
        (b't1,"\xff,2026-01-01,1,EUR', 4, "this quote is never closed"),
    ],
)
def test_a_malformed_row_is_named_and_its_neighbours_arrive(
    row: str | bytes, column: int, words: str
) -> None:
    raw = row if isinstance(row, bytes) else row.encode()
    good = b"t%d,u1,2026-01-01T00:00:00Z,1.00,EUR\n"
    header = b"transaction_id,user_id,event_timestamp,total_amount,currency\r\n"
    text = header + good % 1 + raw + b"\n\n" + good % 2
    done = publish_text("transactions", text, format="csv")
    assert done.places == [(3, column)]
    assert words in done.reasons[0]
    assert [record["transaction_id"] for record in done.records] == ["t1", "t2"]
    assert done.report.skipped_blank == 1


def test_lines_are_counted_through_cells_that_span_lines() -> None:
    text = _written(
        [
            TICKET,
            ["e1", "t1", "opened", "2026-01-01", "u1", "s", "one\ntwo\nthree"],
            ["e2", "t1", "opened", "never", "u1", "s", "b"],
            ["e3", "t1", "opened", "2026-01-01", "u1", "a\r\nb", "c"],
            ["e4", "t\n1", "opened", "soon", "u1", "s", "b"],
            ["e5", "t1", "opened", "2026-01-01", "u1", "s", "b"],
        ],
        lineterminator="\n",
    )
    done = publish_text("customer_support", text, format="csv")
    assert done.places == [(5, 14), (9, 11)]
    assert [record["event_id"] for record in done.records] == ["e1", "e3", "e5"]
    assert done.records[0]["body"] == "one\ntwo\nthree"
    assert done.records[1]["subject"] == "a\r\nb"


def test_a_quote_that_is_never_closed_costs_its_own_line_only(tmp_path: Path) -> None:
    header = "transaction_id,user_id,event_timestamp,total_amount,currency\n"
    good = "".join(f"t{n},u1,2026-01-01,1,EUR\n" for n in range(60_000))
    path = tmp_path / "orders.csv"
    path.write_text(f'{header}a,"u1,2026-01-01,1,EUR\n{good}b,"u1,2026-01-01,1,EUR\n{good}c,"x')
    done = publish("transactions", path)
    assert done.places == [(2, 3), (60_003, 3), (120_004, 3)]
    assert done.report.accepted == 120_000


def test_a_long_cell_may_span_blocks(tmp_path: Path) -> None:
    body = 'line, of "text"\n' * 40_000
    rows = [
        ["e1", "t1", "opened", "2026-01-01", "u1", "s", body],
        ["e2", *TICKET[1:3], "x", *"abc"],
    ]
    path = tmp_path / "tickets.csv"
    path.write_text(_written([TICKET, *rows]), newline="")
    done = publish("customer_support", path)
    assert done.records[0]["body"] == body
    assert done.places == [(40_003, 25)]


@pytest.mark.parametrize("order", ["file", "time"])
def test_purchases_by_customer_from_dates_and_dollars(tmp_path: Path, order: str) -> None:
    rows = [
        ("00001", "19970101", "1", "11.77"),
        ("00002", "19970112", "1", "12.00"),
        ("00002", "19970112", "5", "77.00"),
        ("00003", "19970102", "2", "20.76"),
        ("00003", "19970330", "2", "20.76"),
        ("00003", "19970330", "2", "20.76"),
    ]
    path = tmp_path / "purchases.csv"
    path.write_text(_written([["customer", "date", "quantity", "dollars"], *map(list, rows)]))
    done = publish(
        "transactions",
        path,
        mapping=["user_id=customer", "event_timestamp=date", "total_amount=dollars"],
        constants=["currency=USD"],
        timestamp_format="%Y%m%d",
        order=order,
    )
    decoded = contract("transactions").decode([*done.values])
    assert decoded.failures == []
    assert Counter((e.user_id, e.event_timestamp[:10], e.total_amount) for e in decoded.events) == (
        Counter((c, f"{d[:4]}-{d[4:6]}-{d[6:]}", dollars) for c, d, _, dollars in rows)
    )
    assert len({event.transaction_id for event in decoded.events}) == len(rows)
    assert [r["quantity"] for r in done.records if r["user_id"] == "00002"] == ["1", "5"]
    assert done.keys == [record["user_id"].encode() for record in done.records]
    dates = [record["event_timestamp"] for record in done.records]
    assert (dates == sorted(dates)) == (order == "time")


def test_the_same_file_twice_gives_the_same_ids_and_another_row_another() -> None:
    options: dict[str, Any] = {"format": "csv", "constants": ["currency=USD"]}
    text = "user_id,event_timestamp,total_amount\n" + "u1,2026-01-01,5\n" * 3
    first = publish_text("transactions", text, **options)
    again = publish_text("transactions", text.replace("\n", "\r\n"), **options)
    longer = publish_text("transactions", text + "u2,2026-01-01,5\n", **options)
    assert first.values == again.values
    assert longer.values[:3] == first.values
    assert len({record["transaction_id"] for record in longer.records}) == 4
    other = publish_text("transactions", text, format="csv", constants=["currency=EUR"])
    assert not {r["transaction_id"] for r in first.records} & {
        r["transaction_id"] for r in other.records
    }


def test_columns_aligned_by_blanks() -> None:
    text = " customer_id  date n  dollar_value\r\n 00001 19970101  1   11.77\r\n"
    text += " 00002 x 1 2\r\n 3 4\r\n"
    done = publish_text(
        "transactions",
        text,
        format="csv",
        mapping=["user_id=customer_id", "event_timestamp=date", "total_amount=dollar_value"],
        constants=["currency=USD"],
        timestamp_format="%Y%m%d",
    )
    (record,) = done.records
    assert (record["user_id"], record["total_amount"], record["n"]) == ("00001", "11.77", "1")
    assert done.places == [(3, 8), (4, 5)]


def test_extra_columns_are_kept_and_never_hide_a_field() -> None:
    text = "user_id,login,total_amount,currency,date,,original_user_id\nx,u1,1,EUR,2026-01-01,e,y\n"
    done = publish_text(
        "transactions",
        text,
        format="csv",
        mapping=["user_id=login", "event_timestamp=date"],
        constants=["currency=USD"],
    )
    (record,) = done.records
    assert record["user_id"] == "u1"
    assert record["original_user_id"] == "y"
    assert record["original_original_user_id"] == "x"
    assert (record["currency"], record["original_currency"]) == ("USD", "EUR")
    assert record["column_6"] == "e"


def test_one_column_may_fill_two_fields() -> None:
    done = _orders(
        "t1,u1,2026-01-01,1,EUR\n",
        mapping=["order_id=transaction_id"],
        constants=["transaction_id=fixed"],
    )
    assert done.records[0]["order_id"] == "t1"
    done = _orders("t1,u1,2026-01-01,1,EUR\n", mapping=["order_id=user_id", "user_id=user_id"])
    assert (done.records[0]["order_id"], done.records[0]["user_id"]) == ("u1", "u1")


def test_mistakes_in_the_mapping_are_one_line_that_helps() -> None:
    text = "customer,date,dollars\nc,2026-01-01,1\n"
    message = _refused(text)
    assert message.startswith(
        "stdin: nothing fills user_id, event_timestamp, total_amount, currency"
    )
    assert message.endswith("the columns are customer, date, dollars")
    assert "did you mean user_id?" in _refused(text, mapping=["usr_id=customer"])
    assert "no field 'usr_id'" in _refused(text, mapping=["usr_id=custmer"])
    assert "did you mean payment.card_id?" in _refused(text, mapping=["card_id=customer"])
    assert "did you mean customer?" in _refused(text, mapping=["user_id=custmer"])
    assert "gives user_id twice" in _refused(text, mapping=["user_id=a", "user_id=b"])
    assert "by --map and by --set" in _refused(
        text, mapping=["currency=a"], constants=["currency=b"]
    )
    assert "write it as --map field=column" in _refused(text, mapping=["user_id"])
    assert "write it as --set field=value" in _refused(text, constants=["currency="])
    assert "'12.345' has more than two" in _refused(text, constants=["total_amount=12.345"])
    assert "did you mean currency?" in _refused(text, constants=["curency=USD"])
    assert "device and device.language cannot both" in _refused(
        "a,b\n1,2\n",
        mapping=["device=a", "device.language=b"],
        constants=["user_id=u", "event_timestamp=2026-01-01", "total_amount=1", "currency=EUR"],
    )


def test_a_source_whose_events_need_a_user_needs_one_here() -> None:
    with pytest.raises(PublishError, match="nothing fills user_id, which clickstream needs"):
        publish_text(
            "clickstream",
            "t\n2026-01-01\n",
            format="csv",
            mapping=["event_timestamp=t"],
            constants=["event_type=search"],
        )


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("a,b,a", "stdin:1:5: the header names 'a' twice"),
        ('a,"b', "stdin:1:3: a quote of the header is not closed"),
        ('a,"b"c', "stdin:1:6: the header: expected ',' after the closing quote"),
        (b"a,\xff", "stdin:1:3: byte 0xff is not UTF-8"),
        ("a\rb\r", "bare carriage returns"),
    ],
)
def test_a_header_that_cannot_be_used_is_refused(header: str | bytes, words: str) -> None:
    raw = header if isinstance(header, bytes) else header.encode()
    with pytest.raises(PublishError) as caught:
        publish_text("transactions", raw + b"\n1,2,3\n", format="csv")
    assert words in str(caught.value)


def test_lines_before_the_header_are_skipped_and_counted_in_places() -> None:
    done = publish_text(
        "transactions",
        '\ufeff\n\n"transaction_id",user_id,event_timestamp,total_amount,currency\nt,u,2026-01-01,x,EUR\n',
        format="csv",
    )
    assert done.places == [(4, 16)]


def test_a_table_of_bad_rows_publishes_nothing() -> None:
    text = "user_id,event_timestamp,total_amount,currency\nu1,never,1,EUR\n"
    done = publish_text("transactions", text, format="csv")
    assert done.outputs == []
    assert done.places == [(2, 4)]


def test_a_table_without_rows_publishes_nothing() -> None:
    done = _orders("")
    assert done.outputs == []
    assert done.report.accepted == 0
