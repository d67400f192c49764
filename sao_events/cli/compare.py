"""`simulate` with policies to compare: its options, and what it prints."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sao_events.cli.options import Context
from sao_events.cli.output import counted, span
from sao_events.compare.chart import draw
from sao_events.compare.given import Given, gather
from sao_events.compare.recommend import Candidate, Proposal, recommend, together
from sao_events.compare.results import P95, Result, compare, notes, reference, values, variants
from sao_events.compare.snippet import snippet
from sao_events.compare.staleness import Ages
from sao_events.compare.variant import Variant, read_changes, read_named, read_schedule
from sao_events.core.errors import UsageError

MOST_DAYS = 3660
ASKING = ("manifest", "log", "trace", "baseline", "set", "policy", "svg", "recommend", "nodes")
EXAMPLES = """  sao-events simulate --trace trace.yaml --days 30 --baseline 'every 1h' --set 'marts:4h'
                                                  the project on record, with data landing as the trace says
  sao-events simulate --manifest target/manifest.json --trace trace.yaml --svg policies.svg
  sao-events simulate --log .sao --recommend      what happened here, and which windows would have saved what"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of comparing to the command's parser."""
    group = parser.add_argument_group("comparing policies (docs/SIMULATE.md)")
    group.add_argument(
        "--manifest", metavar="FILE", help="dbt's manifest.json: the project (default: the one on record)"
    )
    group.add_argument("--log", metavar="PATH", help="replay a recorded log: a state folder, or events as JSON")
    group.add_argument("--trace", metavar="FILE", help="make up what happens from the rates in this file")
    group.add_argument("--days", type=_days, metavar="N", help="how many days (default: 7 of a trace, all of a log)")
    group.add_argument("--seed", type=int, default=0, metavar="N", help="the seed of a trace's chance (default 0)")
    group.add_argument("--baseline", action="append", default=[], metavar="SCHEDULE",
                       help="against all models each time: 'every 1h', 'every 1d at 06:00'; repeatable")  # fmt: skip
    group.add_argument("--set", action="append", default=[], metavar="CHANGE",
                       help="against today's policy changed: 'marts:4h all'; repeatable")  # fmt: skip
    group.add_argument("--policy", action="append", default=[], metavar="NAME=CHANGES",
                       help="against a named change: 'calm=marts:12h, orders:1h lazy'; repeatable")  # fmt: skip
    group.add_argument("--nodes", action="store_true", help="the numbers of each node too")
    group.add_argument("--svg", metavar="FILE", help="write the comparison as a picture")
    group.add_argument("--recommend", action="store_true", help="propose windows for each folder, as YAML too")


def asked(args: argparse.Namespace) -> bool:
    """Whether policies are to be compared."""
    return any(getattr(args, name) for name in ASKING)


def run(context: Context) -> int:
    """Compare, and print it. Raises UsageError, ConfigError or DbtError for what cannot be compared."""
    args, config = context.args, context.config
    if len(args.files) > 1:
        raise UsageError("policies are compared on one scenario file at a time")
    if args.svg and not Path(args.svg).absolute().parent.is_dir():
        raise UsageError(f"{args.svg}: cannot be written: there is no such folder")
    given = gather(
        settings=config.settings,
        state_dir=config.state_dir,
        variables=config.dbt.vars,
        scenario=Path(args.files[0]) if args.files else None,
        manifest=_path(args.manifest),
        log=_path(args.log),
        trace=_path(args.trace),
        days=args.days,
        seed=args.seed,
    )
    threads = config.dbt.threads or 4
    policies = _policies(args, given)
    if args.recommend:
        context.out.aside("trying windows, folder by folder ...")
    found = recommend(given.trace, given.settings, today=given.today, threads=threads) if args.recommend else []
    if any(each.proposed for each in found):
        policies.append(together(policies[0], found))
    results = compare(given.trace, policies, given.settings, threads=threads)
    if context.out.as_json:
        told = values(given.trace, results)
        context.out.json({**told, **(_told(given, found) if args.recommend else {})})
    else:
        _show(context, given, results)
        if args.recommend:
            _show_proposals(context, given, found)
    if args.svg:
        _write(Path(args.svg), draw(given.trace, results))
        context.out.aside(f"the picture is in {args.svg}")
    return 0


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


def _days(text: str) -> float:
    try:
        days = float(text)
    except ValueError:
        days = 0.0
    if not 0 < days <= MOST_DAYS:
        raise argparse.ArgumentTypeError(f"{text} is not a number of days above 0, {MOST_DAYS} at most")
    return days


def _policies(args: argparse.Namespace, given: Given) -> list[Variant]:
    baselines = [(text.strip(), read_schedule(text)) for text in args.baseline]
    changes = [(", ".join(args.set), read_changes(args.set))] if args.set else []
    changes += [read_named(text) for text in args.policy]
    found = variants(given.trace, baselines=baselines, changes=changes, today=given.today)
    names = [variant.name for variant in found]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two policies of the name {name}", hint="give each --policy a name of its own")
    return found


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}") from None


# The comparison


def _show(context: Context, given: Given, results: Sequence[Result]) -> None:
    trace, base = given.trace, reference(results)
    told = values(trace, results)
    landed = counted(told["landings"], "landing")
    length = (
        span(trace.until - trace.start) if trace.days < 1 else f"{trace.days:.3g} day{'' if trace.days == 1 else 's'}"
    )
    context.out.line(f"{told['project']}, {length} from {told['start']}: {landed}", "bold")
    for note in notes(trace, results):
        context.out.line(f"note: {note}", "yellow")
    columns = ["policy", "builds", "reuses", "build time", "wall", "tests", "mean age", "p95", "max"]
    rows = [
        [
            each.name,
            str(each.builds),
            str(each.reuses),
            span(each.seconds),
            span(each.wall),
            str(each.tests),
            *_ages(each.ages),
            *([] if base is None else [_saved(each, base)]),
        ]
        for each in results
    ]
    context.out.table(columns + ([] if base is None else [f"against {base.name}"]), rows)
    if context.args.nodes:
        _show_nodes(context, results)


def _show_nodes(context: Context, results: Sequence[Result]) -> None:
    names = list(dict.fromkeys(node.node for each in results for node in each.nodes))
    known = {(each.name, node.node): node for each in results for node in each.nodes}
    rows = [
        [node.name, each.name, str(node.builds), span(node.seconds), *_ages(node.ages)]
        for name in names
        for each in results
        if (node := known.get((each.name, name)))
    ]
    context.out.line()
    context.out.table(["node", "policy", "builds", "build time", "mean age", "p95", "max"], rows)


def _ages(ages: Ages) -> list[str]:
    return [span(ages.mean), span(ages.quantile(P95)), span(ages.most)]


def _saved(each: Result, base: Result) -> str:
    if each is base or not base.seconds:
        return "-"
    return f"{each.seconds / base.seconds - 1:+.0%} build time"


# The proposals


def _show_proposals(context: Context, given: Given, found: Sequence[Proposal]) -> None:
    rows = []
    for each in found:
        same = [other for other in each.candidates if other.words == each.today.words]
        for candidate in (*([] if same else [each.today]), *each.candidates):
            marks = ["today"] * (candidate.words == each.today.words) + ["proposed"] * (candidate is each.proposed)
            less = each.today.seconds_a_day - candidate.seconds_a_day
            saved = f"{'-' if less < 0 else ''}{span(abs(less))}"
            ages = [span(candidate.mean), span(candidate.p95), span(candidate.most)]
            rows.append([each.group, candidate.words, saved, *ages, ", ".join(marks)])
    context.out.line()
    context.out.table(["folder", "window", "saved a day", "mean age", "p95", "max", ""], rows)
    context.out.line()
    for each in found:
        context.out.line(f"{each.group}: {each.why}" + (f"; {each.quorum}" if each.quorum else ""))
    if text := snippet(given.today or given.trace.project, found):
        context.out.line("\nfor dbt_project.yml; blocks that nodes declare themselves win over it:\n")
        context.out.line(text.rstrip())


def _told(given: Given, found: Sequence[Proposal]) -> dict[str, Any]:
    yaml = snippet(given.today or given.trace.project, found)
    return {"proposals": [_proposal(each) for each in found], "yaml": yaml}


def _proposal(each: Proposal) -> dict[str, Any]:
    return {
        "group": each.group,
        "nodes": list(each.nodes),
        "today": _candidate(each.today, each.today),
        "candidates": [_candidate(candidate, each.today) for candidate in each.candidates],
        "proposed": _candidate(each.proposed, each.today) if each.proposed else None,
        "why": each.why,
        "all": each.quorum,
    }


def _candidate(candidate: Candidate, today: Candidate) -> dict[str, Any]:
    return {
        "policy": candidate.words,
        "build_after_seconds": candidate.change.window if candidate.change else None,
        "updates_on": candidate.change.quorum if candidate.change else None,
        "builds_a_day": round(candidate.builds_a_day, 3),
        "build_seconds_a_day": round(candidate.seconds_a_day, 3),
        "saved_seconds_a_day": round(today.seconds_a_day - candidate.seconds_a_day, 3),
        "staleness": {
            "mean_seconds": round(candidate.mean, 3),
            "p95_seconds": round(candidate.p95, 3),
            "max_seconds": round(candidate.most, 3),
        },
    }
