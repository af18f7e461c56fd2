"""What a change of the contracts does to each place that keeps events, and doing it.

    contracts (schemas/, as they are) --+-- what was accepted before   schemas/history
                                        +-- the lake                   Parquet files, never changed
                                        +-- dbt                        its sources, generated
                                        '-- BigQuery                   a table a source

Only what adds is ever done. Everything else is refused, and the refusal says how to do it instead.
"""
