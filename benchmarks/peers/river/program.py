"""Rolling features and an anomaly detector by river, an event at a time, as it is made for.

program.py features|anomalies GIVEN DIRECTORY: GIVEN is an .npz; prints the CPU seconds of what is
measured, and leaves what came out in answers.npy of the directory.
"""

import sys
import time
from collections import defaultdict
from datetime import datetime, timedelta

import numpy as np
from river import anomaly, compose, preprocessing, stats, utils

EPOCH = datetime(1970, 1, 1)


def features(given):
    """Count and sum of every window for each event; the first `warm_up` are not measured."""
    periods = [timedelta(microseconds=us) for us in given["windows_us"].tolist()]
    entities, values = given["entities"].tolist(), given["values"].tolist()
    times = [EPOCH + timedelta(microseconds=us) for us in given["times_us"].tolist()]
    rolling = defaultdict(
        lambda: [utils.TimeRolling(stats.Sum, period=period) for period in periods for _ in "ns"]
    )
    warm_up, answers = int(given["warm_up"]), []
    started = time.process_time()
    for number, (entity, value, at) in enumerate(zip(entities, values, times, strict=True)):
        if number == warm_up:
            started = time.process_time()
        answer = []
        for k, window in enumerate(rolling[entity]):
            window.update(value if k % 2 else 1, t=at)  # stats.Count cannot take back
            answer.append(window.get())
        answers.append(answer)
    return time.process_time() - started, answers[warm_up:]


def anomalies(given):
    """Half-space trees on the scaled values of each series, a row of all series in turn."""
    rows = given["rows"]
    models = [
        compose.Pipeline(preprocessing.MinMaxScaler(), anomaly.HalfSpaceTrees(seed=1))
        for _ in range(rows.shape[1])
    ]
    warm_up, answers = int(given["warm_up"]), []
    started = time.process_time()
    for number, row in enumerate(rows.tolist()):
        if number == warm_up:
            started = time.process_time()
        for model, value in zip(models, row, strict=True):
            x = {"value": value}
            answers.append(model.score_one(x))
            model.learn_one(x)
    return time.process_time() - started, answers


def main(what, given, directory):
    with np.load(given) as file:
        seconds, answers = {"features": features, "anomalies": anomalies}[what](dict(file))
    print(seconds)
    np.save(f"{directory}/answers.npy", np.array(answers, float))


main(*sys.argv[1:])
