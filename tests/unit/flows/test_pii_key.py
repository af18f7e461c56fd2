from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dataflows.errors import TidegateError
from dataflows.flows.pseudonyms import load_key


def test_threads_that_make_the_key_at_once_agree_on_it(tmp_path: Path) -> None:
    for attempt in range(20):
        directory = tmp_path / str(attempt)
        directory.mkdir()
        with ThreadPoolExecutor(16) as pool:
            keys = set(pool.map(load_key, [directory] * 16))
        assert len(keys) == 1
        assert [file.name for file in directory.iterdir()] == ["pii.key"]
        assert (directory / "pii.key").stat().st_mode & 0o777 == 0o600


def test_a_file_that_holds_no_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pii.key").write_text("not a key")
    with pytest.raises(TidegateError, match=r"pii\.key: is no key of 32 bytes in hex"):
        load_key(tmp_path)
