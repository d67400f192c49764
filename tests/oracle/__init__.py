"""The oracle: random histories of the real service, real dbt and a real warehouse, held against a full build.

A history loads data, edits code, breaks and mends it, kills processes at random instants and lets time pass. Whenever
the service is at rest, every relation that it reuses must hold exactly what a full `dbt build` of the same code over
the same sources holds. `python -m tests.oracle --histories 200` is the nightly size.

What a history leaves open is left to that law: columns of a snapshot say when it was taken, so the full build goes on
from the history's own snapshots and must find nothing to add.
"""
