"""A random forest as C code by treelite and TL2cgen, a thread.

program.py GIVEN DIRECTORY: GIVEN is an .npz of rows, labels (of the first rows) and the forest's
settings as JSON; prints the CPU seconds of the rows, so many at once, and leaves their scores in
scores.npy of the directory.
"""

import json
import sys
import time

import numpy as np
import tl2cgen
import treelite
from sklearn.ensemble import RandomForestClassifier


def main(given, directory):
    with np.load(given) as file:
        rows, labels = file["rows"], file["labels"]
        settings, at_once = json.loads(str(file["settings"])), int(file["at_once"])
    forest = RandomForestClassifier(**settings).fit(rows[: len(labels)], labels)
    rows = rows[: int(len(rows) // at_once * at_once)].astype(np.float32)
    library = f"{directory}/forest.so"
    tl2cgen.export_lib(
        treelite.sklearn.import_model(forest),
        toolchain="gcc",
        libpath=library,
        params={"parallel_comp": 8},
        nthread=2,
    )
    predictor = tl2cgen.Predictor(library, nthread=1)
    batches = [rows[first : first + at_once] for first in range(0, len(rows), at_once)]
    predictor.predict(tl2cgen.DMatrix(batches[0]))
    started = time.process_time()
    scores = [predictor.predict(tl2cgen.DMatrix(batch)) for batch in batches]
    print(time.process_time() - started)
    np.save(f"{directory}/scores.npy", np.concatenate(scores).reshape(len(rows), -1)[:, -1])


main(*sys.argv[1:])
