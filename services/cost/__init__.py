"""What a day of this traffic costs on Google Cloud: measured volumes, and dated prices.

    lake, log, warehouse, workers -> measured volumes -> usage of a day -> price of the day -> cost

Everything from the volumes on is pure and exact: volumes.py, pricing.py.
"""
