"""Scenario files: a small project, a timeline of events, and the builds that must come of them.

One YAML document is one scenario; keys and names are text as written, errors name file, line and the nearest valid key.
"""

from __future__ import annotations

from sao_events.scenario.model import Happening, Scenario, offset
from sao_events.scenario.reader import parse_scenarios, read_scenarios

__all__ = ["Happening", "Scenario", "offset", "parse_scenarios", "read_scenarios"]
