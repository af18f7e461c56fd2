"""The BigQuery emulator with one thing more put right; run by the emulator's own Python.

    python repaired_emulator.py LAUNCHER ARGUMENTS...

Before it looks for averages of NUMERIC, it writes each `t.*` out by what it knows of a table, which
are no records: queries lose these columns. No query of ours averages NUMERIC.
"""

from __future__ import annotations

import runpy
import sys

from bqemulator.sql.translator import SQLTranslator

SQLTranslator._annotate_tree = staticmethod(lambda tree, schema: tree)

if __name__ == "__main__":
    runpy.run_path(sys.argv.pop(1), run_name="__main__")
