"""What every change runs, and what only a night has time for: `SAO_NIGHTLY=1` runs all of it."""

from __future__ import annotations

import os

import pytest

NIGHTLY = bool(os.environ.get("SAO_NIGHTLY"))
by_night = pytest.mark.skipif(not NIGHTLY, reason="SAO_NIGHTLY=1 runs it")
ADAPTERS = ["duckdb", pytest.param("postgres", marks=by_night)]
