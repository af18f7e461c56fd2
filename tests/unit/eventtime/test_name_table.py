"""The name table against a dict."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflows.eventtime.name_table import NO_NAME, NameTable

NAMES = st.one_of(
    st.none(),
    st.sampled_from(["", "a", "ann", "bob", "a\0", "ä", "日本"]),
    st.integers(0, 3000).map(lambda i: f"user {i}"),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=60),
)
BATCHES = st.lists(st.tuples(st.lists(NAMES, max_size=30), st.integers(0, 30)), max_size=12)


@given(BATCHES)
@settings(deadline=None, max_examples=150)
def test_it_behaves_as_a_dict_with_a_free_list(batches: list[tuple[list[str | None], int]]) -> None:
    table = NameTable()
    known: dict[str, int] = {}
    for names, forget in batches:
        ids = table.ids(names).tolist()
        for name, found in zip(names, ids, strict=True):
            if name is None:
                assert found == NO_NAME
            else:
                assert known.setdefault(name, found) == found
        assert len(set(known.values())) == len(known) == len(table)
        forgotten = list(known)[:forget]
        table.forget(np.array([known.pop(name) for name in forgotten], np.int32))
        assert table.names(np.array(list(known.values()), np.int32)) == list(known)


def test_ids_are_dense_and_given_out_again() -> None:
    table = NameTable()
    assert table.ids(["ann", None, "bob", "ann"]).tolist() == [0, NO_NAME, 1, 0]
    table.forget(np.array([0], np.int32))
    assert table.ids(["cem", "bob", "dee"]).tolist() == [0, 1, 2]
    assert (len(table), table.room) == (3, 3)


def test_many_names_survive_growth() -> None:
    table = NameTable()
    names = [f"someone with the number {i}" for i in range(50_000)]
    ids = table.ids(names)
    assert ids.tolist() == list(range(50_000))
    table.forget(ids[::2])
    assert table.ids(names[1::2]).tolist() == ids[1::2].tolist()
    assert table.names(ids[1::2]) == names[1::2]


def test_passing_names_leave_nothing_behind() -> None:
    table = NameTable()
    sizes = []
    for visit in range(200):
        ids = table.ids([f"{visit} visitor {i}" * (1 + i % 3) for i in range(700)])
        sizes.append(table.nbytes)
        table.forget(ids)
    assert len(table) == 0
    assert max(sizes[20:]) == sizes[20]
