"""The compiled kernel of :mod:`dataflows.detection.anomalies`: flat arrays, no objects, no I/O.

A row of every array of the store belongs to one series. For each value the kernel

1. says what it expected (`expect`): the last level, the usual value at this time of the day, or at
   this hour of the week, whichever has been nearest lately; and a band around it;
2. measures in each channel how far the newest window of rows is from the nearest of those it
   remembers (`measure`): a channel looks at the values, or at what is left of them when the season
   is taken off, as so many means of so many rows;
3. turns each distance into its surprise, the negative logarithm of how often so large a one is to
   be expected, judged by the largest distances of earlier stretches (`surprise`);
4. takes a mean of the surprises, less what has been reported lately (`report`).

What a channel remembers are windows, none within `radius` of another. When there is no room left
the radius grows, and of those that are then too close to each other the ones that were matched
last are kept: an incremental k-centre clustering (Charikar, Chekuri, Feder and Motwani, 1997).
A surprise beyond what was seen follows a Pareto tail, whose index is Hill's estimate (1975) from
the largest distances, drawn towards TAIL. A window is learnt only once it shares no row with the
newest one, so that no event makes itself usual.
"""

import math
from itertools import accumulate
from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

NONE: Final = np.int64(-1)

# What the channels look at: means of BLOCK rows, WIDTH of them, of the values (0) or of the
# residuals (1); and how many windows each remembers.
VALUES: Final = 0
RESIDUALS: Final = 1
SOURCE: Final = (0, 0, 0, 0, 1, 1, 1, 1)
BLOCK: Final = (1, 4, 16, 64, 1, 4, 16, 64)
WIDTH: Final = (2, 8, 8, 4, 2, 4, 4, 4)
ROOM: Final = (64, 128, 128, 128, 64, 128, 128, 128)
CHANNELS: Final = len(SOURCE)
WIDEST: Final = max(WIDTH)
ROOMIEST: Final = max(ROOM)
_ends = list(accumulate(width * room for width, room in zip(WIDTH, ROOM, strict=True)))
FIRST_NUMBER: Final = (0, *_ends[:-1])  # of a channel's, among all remembered
NUMBERS: Final = _ends[-1]
FIRST_WINDOW: Final = (0, *accumulate(ROOM[:-1]))
WINDOWS: Final = sum(ROOM)
RECENT: Final = 512  # rows kept of each source: twice the longest window
GROWTH: Final = 1.21  # of the squared radius

# Surprise
LARGEST: Final = 12  # distances kept
STRETCH: Final = 20  # rows; distances nearer to each other are one event
LONGEST_STRETCH: Final = 3  # of them, then a new one begins
HORIZON: Final = 1_000  # stretches after which a distance is forgotten
FEWEST: Final = 4  # stretches before a channel says anything
HALF_SURE: Final = 10.0  # stretches with which a surprise counts half
TAIL: Final = 0.2
TAIL_WEIGHT: Final = 20.0  # distances that TAIL counts for
FIRST_MOVE: Final = 2.0  # surprise, beyond that of its rarity, of the first distance above zero

# Report
AGREEMENT: Final = 0.5  # exponent of the power mean; the lower, the more channels must agree
WARM_UP: Final = 100  # rows of a series before its first score
REFRACTORY: Final = 60  # rows
WORSE: Final = 1.01  # times as surprising as what was reported: less is no news
MUCH_WORSE: Final = 2.0  # the same, when that was worth an alert
FATIGUE: Final = 500.0  # rows in which it falls to 1/e
WORTH: Final = 0.4  # what is less makes nobody tired
HALF: Final = 0.72  # what is reported as a score of 0.5

# Season
DAY_US: Final = 86_400_000_000
WEEK_US: Final = 7 * DAY_US
DAILY: Final = 48  # slots
WEEKLY: Final = 168
SEASON_MEMORY: Final = 0.25  # weight of the newest cycle, at least
TRUST_WEEK_FROM: Final = 300  # rows in which both were compared
TRUST_WEEK_BELOW: Final = 0.8  # of the daily error
ERROR_MEMORY: Final = 0.005

# Band
LEVEL_MEMORY: Final = 0.3
OUTSIDE: Final = 0.005  # of the rows above the band, and as many below
REACH_STEP: Final = 0.25
BAND_FROM: Final = 30  # rows

MOST: Final = 1e150  # a value beyond it is none: its square would overflow
SMALLEST: Final = 1e-9  # of the range of the series: less is rounding
NEARLY: Final = 1 + 1e-9  # so that what is equal stays so after rounding

# Columns of the answers
SCORE, EXPECTED, LOWER, UPPER = 0, 1, 2, 3

SERIES = np.dtype(
    [
        ("rows", "i8"),  # with a value
        ("residuals", "i8"),  # rows with a residual
        ("first", "f8"),  # the first value, to which the others are taken relative
        ("low", "f8"),
        ("high", "f8"),
        ("level", "f8"),
        ("level_error", "f8"),
        ("daily_error", "f8"),
        ("weekly_error", "f8"),
        ("compared", "i8"),
        ("error", "f8"),  # of what was expected
        ("above", "f8"),  # reach of the band, in errors
        ("below", "f8"),
        ("reported", "i8"),  # row, or NONE
        ("peak", "f8"),  # surprise that was reported
        ("told", "f8"),  # what of it was new
        ("fatigue", "f8"),
    ],
    align=True,
)
SLOT = np.dtype([("mean", "f8"), ("sum", "f8"), ("cycle", "i4"), ("rows", "i4"), ("cycles", "i4")])
CHANNEL = np.dtype(
    [
        ("radius2", "f8"),
        ("pending", "f8"),  # largest distance of the stretch that goes on
        ("begun", "i8"),  # its first row, or NONE
        ("latest", "i8"),  # row of `pending`
        ("stretches", "i8"),
        ("windows", "i4"),
        ("largest", "i4"),  # how many of LARGEST are there
    ],
    align=True,
)

kernel = njit(cache=True, nogil=True, _nrt=False)


class Store(NamedTuple):
    """The state of S series; `scratch_*` is room to work in and no state."""

    series: NDArray[Any]  # [S] SERIES
    channels: NDArray[Any]  # [S, CHANNELS] CHANNEL
    slots: NDArray[Any]  # [S, DAILY + WEEKLY] SLOT
    recent: NDArray[np.float64]  # [S, 2, RECENT] rings of values and residuals
    windows: NDArray[np.float64]  # [S, NUMBERS] by channel: the first mean of each window, ...
    matched: NDArray[np.int64]  # [S, WINDOWS] the row that was last nearest to it
    largest: NDArray[np.float64]  # [S, CHANNELS, LARGEST] descending
    stretch: NDArray[np.int64]  # [S, CHANNELS, LARGEST] of each of them
    scratch_window: NDArray[np.float64]  # [2, WIDEST]
    scratch_distances: NDArray[np.float64]  # [ROOMIEST]
    scratch_order: NDArray[np.int64]  # [ROOMIEST]


@kernel
def usual(slots: NDArray[Any], at: int, cycle: int) -> float:
    """The mean of earlier cycles in a slot, NaN before there is one; takes in one that is over."""
    slot = slots[at]
    if slot.cycle != cycle:
        if slot.rows > 0:
            slot.cycles += 1
            newest = slot.sum / slot.rows
            slot.mean += (newest - slot.mean) * max(SEASON_MEMORY, 1.0 / slot.cycles)
        slot.cycle = cycle
        slot.sum = 0.0
        slot.rows = 0
    return slot.mean if slot.cycles > 0 else np.nan


@kernel
def drawn(average: float, value: float, rows: int) -> float:
    """The running mean of an error, with one more; of the last rows once there are many."""
    return average + (value - average) * max(ERROR_MEMORY, 1.0 / (rows + 1))


@kernel
def reached(reach: float, missed: bool) -> float:
    """An end of the band, moved so that a share OUTSIDE of the rows comes to lie beyond it."""
    return reach * math.exp(REACH_STEP * (missed - OUTSIDE))


@kernel
def expect(store: Store, s: int, time: int, value: float, out: NDArray[np.float64]) -> float:
    """Fill expected, lower and upper; learn the value; return its residual, NaN without season.

    `value` is relative to the first one; NaN for a row that has none, of which nothing is learnt.
    """
    series, slots = store.series[s], store.slots[s]
    day, week = time // DAY_US, time // WEEK_US
    at_day = (time - day * DAY_US) * DAILY // DAY_US
    at_week = DAILY + (time - week * WEEK_US) * WEEKLY // WEEK_US
    daily, weekly = usual(slots, at_day, day), usual(slots, at_week, week)
    season, season_error = daily, series.daily_error
    trusted = series.compared > TRUST_WEEK_FROM and not math.isnan(weekly)
    if trusted and series.weekly_error < TRUST_WEEK_BELOW * series.daily_error:
        season, season_error = weekly, series.weekly_error
    expected = series.level
    if not math.isnan(season) and season_error * NEARLY < series.level_error:
        expected = season
    above, below = series.above * series.error, series.below * series.error
    if series.rows > 0:
        out[EXPECTED] = series.first + expected
    if series.rows >= BAND_FROM:
        out[LOWER] = series.first + expected - below
        out[UPPER] = series.first + expected + above
    if math.isnan(value):
        return np.nan
    miss = value - expected
    if series.rows >= BAND_FROM:
        series.above = reached(series.above, miss > above)
        series.below = reached(series.below, -miss > below)
    series.error = drawn(series.error, abs(miss), series.rows)
    series.level_error = drawn(series.level_error, abs(value - series.level), series.rows)
    if not math.isnan(daily):
        series.daily_error = drawn(series.daily_error, abs(value - daily), series.residuals)
        if not math.isnan(weekly):
            series.weekly_error = drawn(series.weekly_error, abs(value - weekly), series.compared)
            series.compared += 1
    series.level += (value - series.level) * max(LEVEL_MEMORY, 1.0 / (series.rows + 1))
    for at in (at_day, at_week):
        slots[at].sum += value
        slots[at].rows += 1
    return value - season


@kernel
def cut(store: Store, s: int, channel: int, newest: int, window: NDArray[np.float64]) -> None:
    """Fill the window of a channel that ends at row `newest` of its source."""
    ring = store.recent[s, SOURCE[channel]]
    block = BLOCK[channel]
    row = newest
    for part in range(WIDTH[channel]):
        total = 0.0
        for _ in range(block):
            total += ring[row % RECENT]
            row -= 1
        window[part] = total / block


@kernel
def distances(store: Store, s: int, channel: int, count: int, window: NDArray[np.float64]) -> None:
    """Fill the scratch with the squared distances of the remembered windows from one."""
    numbers, found = store.windows[s], store.scratch_distances
    for p in range(count):
        found[p] = 0.0
    for part in range(WIDTH[channel]):
        at = FIRST_NUMBER[channel] + part * ROOM[channel]
        here = window[part]
        for p in range(count):
            apart = numbers[at + p] - here
            found[p] += apart * apart


@kernel
def nearest(found: NDArray[np.float64], count: int, rounding2: float) -> int:
    """The window with the least distance, the first of those that are equal but for rounding."""
    best, least = 0, max(found[0], rounding2)
    for p in range(1, count):
        if found[p] * NEARLY < least:
            best, least = p, max(found[p], rounding2)
    return best


@kernel
def learn(store: Store, s: int, channel: int, row: int, rounding2: float) -> None:
    """Remember the window that ends at `row`, unless one like it is remembered."""
    state, window = store.channels[s, channel], store.scratch_window[1]
    matched, first = store.matched[s], FIRST_WINDOW[channel]
    cut(store, s, channel, row, window)
    if state.windows > 0:
        distances(store, s, channel, state.windows, window)
        best = nearest(store.scratch_distances, state.windows, rounding2)
        if store.scratch_distances[best] <= max(state.radius2 * NEARLY, rounding2):
            matched[first + best] = row
            return
    if state.windows == ROOM[channel]:
        make_room(store, s, channel, rounding2)
    for part in range(WIDTH[channel]):
        at = FIRST_NUMBER[channel] + part * ROOM[channel] + state.windows
        store.windows[s, at] = window[part]
    matched[first + state.windows] = row
    state.windows += 1


@kernel
def make_room(store: Store, s: int, channel: int, rounding2: float) -> None:
    """Widen the radius until a quarter of the room is free."""
    state = store.channels[s, channel]
    if state.radius2 == 0.0:
        state.radius2 = max(closest(store, s, channel, state.windows), rounding2)
    while state.windows > 3 * ROOM[channel] // 4:
        state.radius2 *= GROWTH
        thin_out(store, s, channel)


@kernel
def between(store: Store, s: int, channel: int, one: int, other: int) -> float:
    """The squared distance of two remembered windows."""
    numbers = store.windows[s]
    total = 0.0
    for part in range(WIDTH[channel]):
        at = FIRST_NUMBER[channel] + part * ROOM[channel]
        apart = numbers[at + one] - numbers[at + other]
        total += apart * apart
    return total


@kernel
def closest(store: Store, s: int, channel: int, count: int) -> float:
    """The least squared distance of any two remembered windows."""
    least = np.inf
    for one in range(count):
        for other in range(one):
            least = min(least, between(store, s, channel, one, other))
    return least


@kernel
def thin_out(store: Store, s: int, channel: int) -> None:
    """Forget windows within the radius of one that was matched later."""
    state, order = store.channels[s, channel], store.scratch_order
    matched, numbers, first = store.matched[s], store.windows[s], FIRST_WINDOW[channel]
    for p in range(state.windows):
        place = p
        while place > 0 and matched[first + order[place - 1]] < matched[first + p]:
            order[place] = order[place - 1]
            place -= 1
        order[place] = p
    kept = store.scratch_distances  # 1 for those that are
    for p in range(state.windows):
        kept[p] = 0.0
    for i in range(state.windows):
        p, alone = order[i], True
        for j in range(i):
            other = order[j]
            if kept[other] > 0 and between(store, s, channel, p, other) <= state.radius2:
                alone = False
                break
        if alone:
            kept[p] = 1.0
    left = 0
    for p in range(state.windows):
        if kept[p] > 0:
            matched[first + left] = matched[first + p]
            for part in range(WIDTH[channel]):
                at = FIRST_NUMBER[channel] + part * ROOM[channel]
                numbers[at + left] = numbers[at + p]
            left += 1
    state.windows = left


@kernel
def keep_largest(store: Store, s: int, channel: int, value: float) -> None:
    """Close a stretch whose largest distance is `value`; forget those that are too old."""
    state = store.channels[s, channel]
    largest, stretch = store.largest[s, channel], store.stretch[s, channel]
    state.stretches += 1
    left = 0
    for k in range(state.largest):
        if stretch[k] > state.stretches - HORIZON:
            largest[left], stretch[left] = largest[k], stretch[k]
            left += 1
    state.largest = left
    if value == 0.0 or (left == LARGEST and value <= largest[LARGEST - 1] * NEARLY):
        return
    place = min(left, LARGEST - 1)
    state.largest = place + 1
    while place > 0 and largest[place - 1] < value:
        largest[place], stretch[place] = largest[place - 1], stretch[place - 1]
        place -= 1
    largest[place], stretch[place] = value, state.stretches


@kernel
def surprise(store: Store, s: int, channel: int, distance: float) -> float:
    """-log of the share of stretches in which so large a distance is to be expected, at least 0."""
    state, largest = store.channels[s, channel], store.largest[s, channel]
    if distance == 0.0 or state.stretches < FEWEST:
        return 0.0
    seen, known = min(state.stretches, HORIZON), state.largest
    sure = seen / (seen + HALF_SURE)
    if known == 0:
        return sure * (math.log(seen + 1.0) + FIRST_MOVE)
    least = largest[known - 1]
    beyond = max(known - 1, 1) if known == LARGEST else known
    if distance <= least / NEARLY:
        return 0.0 if known == LARGEST else sure * math.log((seen + 1.0) / (beyond + 1.0))
    spread = TAIL_WEIGHT * TAIL
    for k in range(known - 1):
        spread += math.log(largest[k] / least)
    tail = spread / (TAIL_WEIGHT + known - 1)
    rarity = math.log((seen + 1.0) / (beyond + 1.0))
    return sure * max(0.0, rarity + math.log(distance / least) / tail)


@kernel
def measure(store: Store, s: int, channel: int, rows: int, rounding2: float) -> float:
    """The surprise of the newest window, which then belongs to what was seen."""
    span = BLOCK[channel] * WIDTH[channel]
    newest = rows - 1
    if newest < 2 * span:
        return 0.0
    row = newest - span
    if row % max(1, BLOCK[channel] // 2) == 0:
        learn(store, s, channel, row, rounding2)
    state, window = store.channels[s, channel], store.scratch_window[0]
    if state.windows == 0:
        return 0.0
    cut(store, s, channel, newest, window)
    distances(store, s, channel, state.windows, window)
    distance2 = store.scratch_distances[nearest(store.scratch_distances, state.windows, rounding2)]
    distance = math.sqrt(distance2 / WIDTH[channel]) if distance2 > rounding2 else 0.0
    surprised = surprise(store, s, channel, distance)
    if state.begun == NONE:
        state.begun = state.latest = newest
        state.pending = distance
        return surprised
    if distance > state.pending / NEARLY:
        state.latest, state.pending = newest, distance
    quiet, long = newest - state.latest, newest - state.begun
    if quiet >= STRETCH or long >= LONGEST_STRETCH * STRETCH:
        keep_largest(store, s, channel, state.pending)
        state.begun = NONE
    return surprised


@kernel
def report(series: Any, surprised: float) -> float:
    """What is new in a surprise, after what was reported lately, as a score from 0 to 1.

    What was worth an alert is not reported again while it lasts, unless it becomes much worse.
    """
    row = series.rows - 1
    if row < WARM_UP:
        return 0.0
    series.fatigue -= series.fatigue / FATIGUE
    if series.reported != NONE and row - series.reported > REFRACTORY:
        if series.told > WORTH:
            series.fatigue += series.told
        series.reported, series.peak, series.told = NONE, 0.0, 0.0
    needed = series.peak * (MUCH_WORSE if series.told >= HALF else WORSE)
    if surprised <= needed:
        return 0.0
    news = max(0.0, surprised - series.fatigue)
    series.reported, series.peak, series.told = row, surprised, news
    return 1.0 - math.exp(-math.log(2.0) * news / HALF)


@kernel
def score(
    store: Store,
    which: NDArray[np.int32],
    times: NDArray[np.int64],
    values: NDArray[np.float64],
    answers: NDArray[np.float64],
) -> None:
    """Fill answers [n, 4] for n values, in order, of the series `which`; times in microseconds."""
    for i in range(len(which)):
        s = which[i]
        series, out = store.series[s], answers[i]
        out[SCORE] = 0.0
        out[EXPECTED] = out[LOWER] = out[UPPER] = np.nan
        value = values[i]
        if not abs(value) <= MOST:
            expect(store, s, times[i], np.nan, out)
            continue
        if series.rows == 0:
            series.first = series.low = series.high = value
        series.low, series.high = min(series.low, value), max(series.high, value)
        value -= series.first
        residual = expect(store, s, times[i], value, out)
        store.recent[s, VALUES, series.rows % RECENT] = value
        series.rows += 1
        if not math.isnan(residual):
            store.recent[s, RESIDUALS, series.residuals % RECENT] = residual
            series.residuals += 1
        rounding = SMALLEST * (series.high - series.low)
        total = 0.0
        for channel in range(CHANNELS):
            rows = series.rows if SOURCE[channel] == VALUES else series.residuals
            total += measure(store, s, channel, rows, rounding * rounding) ** AGREEMENT
        out[SCORE] = report(series, (total / CHANNELS) ** (1 / AGREEMENT))
