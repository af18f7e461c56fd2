"""The warehouse: dbt over the lake, built beside the last good one and put in its place."""
