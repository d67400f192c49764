"""`status` and `why`: what is decided about each node now, and what led to it."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sao_events import report
from sao_events.cli.log import since_instant
from sao_events.cli.options import Context, add_command
from sao_events.cli.output import COLUMNS, counted, node_row, span
from sao_events.cli.project import parse
from sao_events.cli.record import Record, node_ids, opened
from sao_events.clock import clock, seconds_of
from sao_events.core.named import resolve_node
from sao_events.core.project import Project, graphs_of
from sao_events.deliveries import unmatched
from sao_events.lock import at_work
from sao_events.report import View
from sao_events.report.spared import cutoff_text

STATUS_EXAMPLES = """  sao-events status                     every node: what is decided, why, how old, when next
  sao-events status --json | jq '.nodes[] | select(.action == "wait")'"""
PARTS = {
    "compiled": "SQL, as dbt compiles it",
    "again": "SQL, as dbt compiles it once the table is there",
    "sql": "SQL, as it is written",
    "vars": "vars that it asks for",
    "env": "environment variables that it asks for",
    "refs": "relations that it reads",
}
WHY_EXAMPLES = """  sao-events why orders                 by name, or by dbt's unique_id
  sao-events why orders --at 2h          as it was two hours ago, from the log
  sao-events why orders --at 2026-01-31T03:00:00Z
  sao-events why unique_orders_order_id  a test: its result, whether it stands, the chain of its proof
  sao-events why orders --diff           and what differs from the code that it was built with
  sao-events why orders --json"""


def declare(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the commands."""
    summary = "show the decision about every node as of now, with age and next time"
    add_command(commands, "status", status, summary, STATUS_EXAMPLES)
    summary = "show why a node is or is not built: the decision, the events behind it, the last builds, when next"
    parser = add_command(commands, "why", why, summary, WHY_EXAMPLES)
    parser.add_argument("node", metavar="NODE", help="a node's name or unique_id, or a test's")
    parser.add_argument("--diff", action="store_true", help="show how its code differs from what it was built with")
    parser.add_argument("--at", metavar="TIME", help="as of then: 2h ago is 2h; or 2026-01-31T08:00:00Z")


def status(context: Context) -> int:
    """Print the status. A project that was never loaded is parsed; nothing is written to the log."""
    with opened(context.config) as record:
        answer = {**report.status(_view(context, record)), "unmatched": unmatched(record.store)}
    if context.out.as_json:
        context.out.json(answer)
    else:
        _show_status(context, answer)
    return 0


def why(context: Context) -> int:
    """Print the why of a node. Raises UsageError for a node that is not there."""
    with opened(context.config) as record:
        if context.args.at:
            view, find = record.past(context, since_instant(context.args.at, context.clock.now()))
        else:
            view, find = _view(context, record), record.store.find
        assert view.project is not None
        test = _test_id(view.project, context.args.node)
        if test is not None:
            answer = report.why_test(view, test)
        else:
            [node] = node_ids(view.project, [context.args.node])
            answer = report.why(view, find, node, graphs_of(record.store.get_project))
            if context.args.diff:
                answer["diff"] = report.code_difference(view, record.store.get_texts, node)
    if context.out.as_json:
        context.out.json(answer)
    elif test is not None:
        _show_test(context, answer)
    else:
        _show_why(context, answer)
        _show_difference(context, answer)
    return 0


def _test_id(project: Project, name: str) -> str | None:
    """The test of that name or id, where no node is called so and it is the only one."""
    if name in project.graph.tests:
        return name
    same = [test.id for test in project.graph.tests.values() if test.name == name]
    return same[0] if len(same) == 1 and isinstance(resolve_node(project, name), list) else None


def _show_test(context: Context, answer: Mapping[str, Any]) -> None:
    """A test: its last result, whether it stands, and how it was proven."""
    out, last = context.out, answer["last"]
    out.line(f"{answer['test']} ({answer['kind']}, severity {answer['severity']})", "bold")
    if answer["asserts"]:
        out.line(f"  asserts {answer['asserts']}")
    if last is None:
        out.line("never run")
        return
    told = "proven to pass, not run" if last["proven"] else last["status"]
    stands = "stands: nothing that it reads has changed since" if last["stands"] else "is out of date"
    out.line(f"{told} at {clock(seconds_of(last['at']), seconds_of(answer['at']))}; the result {stands}")
    for step in last["proven"]:
        out.line(f"  {step}")
    if last["message"]:
        out.line(f"  {last['message'].strip()}", "red" if last["status"] in {"fail", "error"} else "yellow")


def _view(context: Context, record: Record) -> View:
    view = record.view(context)
    return view if view.project is not None else replace(view, project=parse(context.config, record))


def _show_status(context: Context, answer: Mapping[str, Any]) -> None:
    out, now = context.out, seconds_of(answer["at"])
    counts = ", ".join(f"{number} {action}" for action, number in answer["counts"].items() if number)
    commit = f" at {answer['commit'][:10]}" if answer["commit"] else ""
    out.line(f"{answer['environment']}{commit}: {counts or 'no nodes'}", "bold")
    for run in answer["runs"]:
        since = span(now - seconds_of(run["since"]))
        out.line(f"run {run['run']} of {counted(len(run['nodes']), 'node')} since {since}", "green")
    if answer["runs"] and not at_work(context.config.state_dir):
        out.line("no service is at work here: what was being built is decided again when one starts", "yellow")
    for text, style in _deployment(answer["deployment"], now):
        out.line(text, style)
    out.table(COLUMNS, [node_row(node, now) for node in answer["nodes"]])
    for node in answer["nodes"]:
        if node["failure"]:
            out.line(f"{node['name']} failed: {_first(node['failure']['message'], 2)}", "red")
    _show_held(context, answer["sources"])
    _show_ages(context, answer["sources"])
    if answer["cutoff"]["builds"]:
        out.line(f"early cutoff: {cutoff_text(answer['cutoff'])}")
    for lost in answer["unmatched"]:
        waits = lost["verdict"] == "waiting"
        what = f"delivery {lost['delivery']} of {lost['endpoint']} {'waits' if waits else 'is about no source'}"
        out.line(f"{what}: {lost['reason']}", "yellow")
        if not waits:
            out.line(f"  once that is mended: sao-events events replay --delivery {lost['delivery']}", "dim")
    for left in answer["left"]:
        out.line(f"left behind: {left['relation']} ({left['kind']}, built {_ago(left['built_at'], now)})", "yellow")
        out.line(f"  {left['text']}; sao-events clean drops it", "dim")
    for test in answer["tests"]:
        out.line(f"test {test['name']}: {test['status']} {_first(test['message'])}".rstrip(), "red")
    for warning in answer["warnings"]:
        out.line(f"warning: {warning}", "yellow")


def _deployment(found: Mapping[str, Any], now: float) -> Iterator[tuple[str, str | None]]:
    """What should be in force and what is, where that is git; how it fares, where it is not well."""
    if found["branch"]:
        desired, deployed = found["desired"], found["deployed"]
        seen = f"{desired['commit'][:10]} (seen {_ago(desired['seen_at'], now)})" if desired else "not known yet"
        stands = f"{deployed['commit'] or 'the folder'}"[:10] if deployed else "nothing"
        sync = found["sync"].replace("_", " ")
        text = f"{sync}: {found['branch']} of {found['remote']} is {seen}, deployed is {stands}"
        yield text, None if found["sync"] == "in_sync" else "yellow"
    style = {"degraded": "red", "progressing": "green"}.get(found["health"])
    if found["branch"] or found["sync"] == "out_of_sync":
        yield f"{found['health']}{': ' if found['why'] else ''}{'; '.join(found['why'])}", style


def _ago(instant: str, now: float) -> str:
    return f"{span(now - seconds_of(instant))} ago"


def _show_held(context: Context, sources: Iterable[Mapping[str, Any]], indent: str = "") -> None:
    """What landed in sources since and made nothing new."""
    for source in sources:
        if source["held"]:
            context.out.line(f"{indent}{source['name']}: {source['held']['text']}", "yellow")


def _show_ages(context: Context, sources: Iterable[Mapping[str, Any]], indent: str = "") -> None:
    """Sources that are older than they should be, and those that cannot be looked at."""
    for source in sources:
        found, probe = source["freshness"], source["probe"]
        if found and found["status"] in ("warn", "error"):
            limit = f"{found['status']}_after is {span(found[found['status'] + '_after'])}"
            text = f"{source['name']}: its data is {span(found['age_seconds'])} old, {limit}"
            context.out.line(f"{indent}{text}", "red" if found["status"] == "error" else "yellow")
        if probe and probe["error"]:
            what = "cannot be looked at" if probe["loaded_at"] is None else "is looked at in vain"
            context.out.line(f"{indent}{source['name']} {what}: {_first(probe['error'])}", "yellow")


def _first(text: str | None, lines: int = 1) -> str:
    """So many lines of a message in one. Of dbt's, the first says where and the second what."""
    return " ".join(line.strip() for line in (text or "").strip().splitlines()[:lines])


def _show_why(context: Context, answer: Mapping[str, Any]) -> None:
    out, now = context.out, seconds_of(answer["at"])
    out.line(f"{answer['node']} ({answer['kind']})", "bold")
    out.line(f"{answer['action']}: {answer['text']}  [{answer['reason']}]", None)
    for line in _facts(answer, now):
        out.line(f"  {line}")
    if answer["failure"] and answer["failure"]["message"]:
        out.line("last failure", "bold")
        for line in answer["failure"]["message"].strip().splitlines():
            out.line(f"  {line}", "red")
    if answer["because"]:
        out.line("because", "bold")
        _show_causes(context, answer["because"], now, 1)
    elif answer["last_build_because"]:
        out.line("last built because", "bold")
        _show_causes(context, answer["last_build_because"], now, 1)
    if answer["held"]:
        out.line("landed, and not new", "bold")
        _show_held(context, answer["held"], "  ")
    _show_ages(context, answer["sources"])
    if answer["equal_upstream"]:
        out.line("equal content upstream", "bold")
        for equal in answer["equal_upstream"]:
            times = [clock(seconds_of(equal[key]), now) for key in ("since", "at")]
            out.line(f"  {equal['text']}: {equal['content']} of {times[0]} is that of {times[1]} [{equal['reason']}]")
    if answer["changes_upstream"]:
        out.line("other code upstream", "bold")
        for change in answer["changes_upstream"]:
            out.line(f"  {change['text']}")
    if answer["builds"]:
        out.line("last builds", "bold")
        out.table(
            ("started", "reason", "status", "seconds", "run"), [_build_row(build, now) for build in answer["builds"]]
        )


def _show_difference(context: Context, answer: Mapping[str, Any]) -> None:
    if "diff" not in answer:
        return
    context.out.line("changed since the last build" if answer["diff"] else "built with the code in force", "bold")
    for part in answer["diff"]:
        same = ": written otherwise, the same SQL" if part["same"] else "" if part["diff"] else ": no text is kept"
        context.out.line(f"  {PARTS.get(part['part'], part['part'])}{same}", "bold")
        for line in part["diff"]:
            colour = {"+": "green", "-": "red"}.get(line[:1])
            context.out.line(f"    {line}", colour)


def _facts(answer: Mapping[str, Any], now: float) -> list[str]:
    policy = answer["policy"]
    ruled = (policy["calendar"] or {}).get("window")
    window = "window by the calendar" if ruled else "no window"
    window = f"build_after {span(policy['build_after'])}" if policy["build_after"] else window
    if policy["build_after"] and answer["window_from"]:
        window += f" from {clock(seconds_of(answer['window_from']), now)}"
    lazy = ", lazy" if policy["lazy"] else ""
    again = f", again after {span(policy['max_staleness'])}" if policy["max_staleness"] else ""
    found = [f"policy: {window}, updates_on {policy['updates_on']}{lazy}{again}"]
    if policy["calendar"]:
        found += [f"  {line}" for line in _calendar(policy["calendar"])]
    if answer["built_at"]:
        built = f"{clock(seconds_of(answer['since']), now)} ({span(answer['age_seconds'])} ago)"
        good = answer["since"] == answer["good_since"]
        what = "last good build" if good else "last build, on which a test failed"
        found.append(f"{what}: {built}, {answer['built_because']}, {answer['build_seconds']:.1f} s")
        if not good:
            since = answer["good_since"]
            found.append(f"last good build: {clock(seconds_of(since), now) if since else 'none'}")
    else:
        found.append("last good build: none")
    if answer["identity"]["why"]:
        made = "its content" if answer["kind"] == "seed" else "its own code, macros and configuration"
        found.append(f"identity: that of {made}, because {answer['identity']['why']}")
    if cutoff := answer["cutoff"]:
        found.append(f"early cutoff: {cutoff_text(cutoff)}")
        if cutoff["unhashed"]:
            found.append(f"its content is not hashed: {cutoff['unhashed']}")
    if answer["eligible_at"]:
        at = seconds_of(answer["eligible_at"])
        for_whom = ", ".join(it.rpartition(".")[2] for it in answer["deadline_of"])
        why = f", for {for_whom} to be fresh in time" if for_whom else ""
        found.append(f"next: {clock(at, now)} (in {span(at - now)}){why}")
    elif answer["waiting_for"]:
        names = ", ".join(it.rpartition(".")[2] for it in answer["waiting_for"])
        for_what = "has new data" if answer["reason"] == "waiting_for_upstreams" else "is ready"
        found.append(f"next: when {names} {for_what}")
    return found


def _calendar(calendar: Mapping[str, Any]) -> list[str]:
    """A calendar in words, in its own time zone."""
    rules = [f"{it['weekdays']} {it['between']}: every {it['every']}" for it in calendar.get("window", ())]
    quiet = [f"{it['weekdays']} {it['between']}: no build for new data" for it in calendar.get("quiet", ())]
    fresh = [f"{it['weekdays']}: fresh by {it['at']}" for it in calendar.get("fresh_by", ())]
    return [f"{line} ({calendar['timezone']})" for line in (*rules, *quiet, *fresh)]


def _show_causes(context: Context, causes: Sequence[Mapping[str, Any]], now: float, depth: int) -> None:
    """Each event once: a build may have brought new data and other code."""
    told = set[int | None]()
    for cause in causes:
        seq = cause["event"]["seq"] if cause["event"] else None
        if seq is None or seq not in told:
            _show_cause(context, cause, now, depth)
        told.add(seq)


def _show_cause(context: Context, cause: Mapping[str, Any], now: float, depth: int) -> None:
    event, versions = cause["event"], ""
    if cause.get("now") is not None:
        versions = f" (version {cause['now']}, built with {cause.get('built_with')})"
    if event is None:
        context.out.line(f"{'  ' * depth}{cause['name']}: {cause.get('text') or cause['what']}{versions}")
    else:
        when, who = clock(seconds_of(event["at"]), now), event["sender"]
        context.out.line(f"{'  ' * depth}{event['text']}{versions}: event {event['seq']} by {who} at {when}")
    _show_causes(context, cause.get("because", ()), now, depth + 1)


def _build_row(build: Mapping[str, Any], now: float) -> list[str]:
    seconds = "-" if build["seconds"] is None else f"{build['seconds']:.1f}"
    status = f"{build['status']}, test failed" if build["failed_tests"] else build["status"]
    return [clock(seconds_of(build["started_at"]), now), build["reason"], status, seconds, build["run"]]
