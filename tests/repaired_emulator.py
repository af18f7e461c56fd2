"""The BigQuery emulator with two things more put right; run by the emulator's own Python.

    python repaired_emulator.py LAUNCHER ARGUMENTS...

Before it looks for averages of NUMERIC, it writes each `t.*` out by what it knows of a table, which
are no records: queries lose these columns. No query of ours averages NUMERIC.

After a copy job into a table that was there, it says that this has as many rows as before.
"""

from __future__ import annotations

import runpy
import sys
from typing import Any

from bqemulator.jobs import executor
from bqemulator.sql.translator import SQLTranslator
from bqemulator.storage.sql_identifiers import quoted_table_ref

SQLTranslator._annotate_tree = staticmethod(lambda tree, schema: tree)

_copy = executor._copy_table_into_destination


async def _copy_and_count(**job: Any) -> None:
    await _copy(**job)
    place = job["dst_proj"], job["dst_ds"], job["dst_table_id"]
    context = job["ctx"]
    (rows,) = context.engine.execute(f"SELECT COUNT(*) FROM {quoted_table_ref(*place)}").fetchone()
    told = context.catalog.get_table(*place).model_copy(update={"num_rows": rows})
    context.catalog.update_table(told)


executor._copy_table_into_destination = _copy_and_count

if __name__ == "__main__":
    runpy.run_path(sys.argv.pop(1), run_name="__main__")
