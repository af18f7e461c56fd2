"""The archive: days of the lake in a folder or bucket, proved equal to what they were made of.

    <archive>/<table>/event_date=2026-11-23/<name in the lake>.<hash>.parquet
    <archive>/<table>/event_date=2026-11-23/v000001.json
    <archive>/<table>/progress.json

The second is a manifest, written last: an export that was cut off has none, and nobody sees it. A
day that has changed since gets another manifest, which shares the files that are still the same.
The third says how far each slot was when all days of the table were last exported.
"""
