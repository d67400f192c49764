"""What is told of the record, to people and programs: values for JSON, the words for them, and what led to what.

Pure as the core is, and above it: nothing that decides looks in here.
"""

from sao_events.report.history import Find, builds, event_object, iso, plain, run_object, runs
from sao_events.report.values import (
    RESTLESS,
    SILENT,
    View,
    code_difference,
    failing_tests,
    header,
    names,
    node_object,
    plan_object,
    silent,
    sources,
    status,
    test_object,
    why,
    why_test,
)

__all__ = [
    "RESTLESS", "SILENT", "Find", "View", "builds", "code_difference", "event_object", "failing_tests", "header", "iso",
    "names", "node_object", "plain", "plan_object", "run_object", "runs", "silent", "sources", "status", "test_object",
    "why", "why_test",
]  # fmt: skip
