"""`simulate`: scenario files on the real core, planner and engine loop, under a virtual clock."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from sao_events.cli import compare
from sao_events.cli.options import Context, add_command
from sao_events.cli.output import counted
from sao_events.core.errors import UsageError
from sao_events.report.history import event_object, iso
from sao_events.scenario import Scenario, offset, read_scenarios
from sao_events.simulate import Simulation, Timeline

EXAMPLES = """  sao-events simulate policy.yaml                 does my policy do what I think it does?
  sao-events simulate scenarios/*.yaml            all of them; exit code 0 only if nothing differs
  sao-events simulate policy.yaml --json          the whole timeline: builds, decisions, tests, log
"""


def declare(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    summary = "run scenario files under a virtual clock, or compare policies over a recorded log or a trace"
    parser = add_command(commands, "simulate", simulate, summary, EXAMPLES + compare.EXAMPLES)
    parser.add_argument("files", nargs="*", metavar="FILE", help="scenario files (docs/SCENARIOS.md has the format)")
    compare.configure(parser)


def simulate(context: Context) -> int:
    """Run every scenario of every file. Returns 1 where one differs; raises ConfigError for a file that is wrong.

    With options of comparing: what policies would have made of a history.
    """
    if compare.asked(context.args):
        return compare.run(context)
    if not context.args.files:
        raise UsageError("nothing to simulate", hint="give scenario files, or --trace or --log to compare policies")
    scenarios = [scenario for name in context.args.files for scenario in read_scenarios(Path(name))]
    timelines = [(scenario, Simulation(scenario).run()) for scenario in scenarios]
    differ = sum(bool(timeline.differences) for _, timeline in timelines)
    if context.out.as_json:
        context.out.json({"ok": not differ, "scenarios": [_told(*each) for each in timelines]})
    else:
        _show(context, timelines, differ)
    return 1 if differ else 0


def _show(context: Context, timelines: list[tuple[Scenario, Timeline]], differ: int) -> None:
    for scenario, timeline in timelines:
        if timeline.differences:
            context.out.line(f"differs  {scenario.name}  ({scenario.place})", "red")
            for difference in timeline.differences:
                context.out.line(f"         {difference}")
        else:
            context.out.line(f"ok       {scenario.name}")
        for warning in timeline.warnings:
            context.out.aside(f"warning  {warning}")
    context.out.line(f"{counted(len(timelines), 'scenario')}, {differ} {'differs' if differ == 1 else 'differ'}")


def _told(scenario: Scenario, timeline: Timeline) -> dict[str, Any]:
    def since(at: float) -> str:
        return offset(at - scenario.start)

    return {
        "scenario": scenario.name,
        "file": scenario.place,
        "why": scenario.why,
        "ok": not timeline.differences,
        "differences": timeline.differences,
        "builds": [
            {"at": since(at), "node": node, "reason": reason, "time": iso(at)} for at, node, reason in timeline.builds
        ],
        "decisions": [_decision(since, at, node, decision) for at, node, decision in timeline.decisions],
        "tests": {name: dict(counts) for name, counts in timeline.tests.items()},
        "warnings": list(timeline.warnings),
        "log": [{"offset": since(item.at), **event_object(item)} for item in timeline.log],
    }


def _decision(since: Any, at: float, node: str, decision: Any) -> dict[str, Any]:
    if decision is None:
        return {"at": since(at), "node": node, "action": None}
    return {
        "at": since(at),
        "node": node,
        "action": decision.action.value,
        "reason": decision.reason.value,
        "eligible_at": None if decision.eligible_at is None else since(decision.eligible_at),
        "waiting_for": list(decision.waiting_for),
    }
