"""Part of week.py: the week under a timetable: everything every hour, or every hour what dbt's own selectors find."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.parts_of_week.account import Built
from benchmarks.parts_of_week.commands import Cost, Imported, in_process
from benchmarks.parts_of_week.project import HOUR, START, Happening, Place
from benchmarks.parts_of_week.service import PATIENCE, Outcome, child_cpu
from sao_events.core.project import Project
from sao_events.dbt import DbtBuilder, DbtSettings, open_builder
from sao_events.ports import NodeEnded, Piece, PieceEnded, TestEnded

FRESHNESS = ["source", "freshness"]
SELECTED = ["build", "--select", "state:modified+", "source_status:fresher+", "--state", "before"]


@dataclass
class Sampled:
    """Jobs that were measured, each in processes of their own."""

    costs: list[Cost] = field(default_factory=list)

    def mean(self) -> Cost:
        """The average job."""
        wall, cpu = (sum(values) / len(self.costs) for values in zip(*self.costs, strict=True))
        return Cost(wall, cpu)


def hours(happenings: Sequence[Happening], jobs: int) -> Iterator[tuple[int, float, list[Happening]]]:
    """Number and instant of each job, one an hour, the first at START, and what has happened since the one before."""
    done = 0
    for job in range(jobs + 1):
        at = START + job * HOUR
        fresh = [happening for happening in happenings[done:] if happening.at <= at]
        done += len(fresh)
        yield job, at, fresh


def sample(jobs: int, number: int) -> set[int]:
    """`number` of the jobs after the first, at even distances."""
    return {1 + round((index + 0.5) * jobs / number - 0.5) for index in range(min(number, jobs))}


def everything(
    place: Place, state: Path, happenings: Sequence[Happening], jobs: int, sampled: int
) -> tuple[Outcome, Sampled]:
    """A full `dbt build` every hour by the warm dbt, which parses only after an edit. `sampled` of the jobs are done
    again, as one `dbt build` in a process of its own.
    """
    outcome, cold, before = Outcome(until=START + jobs * HOUR), Sampled(), child_cpu()
    again, cpu_of_cold = sample(jobs, sampled), 0.0
    settings = DbtSettings(place.folder, state, profiles_dir=place.folder)
    with outcome.working("start"):
        builder = open_builder(settings)
    with closing(builder):
        project: Project | None = None
        for job, at, fresh in hours(happenings, jobs):
            for happening in fresh:
                place.happen(happening)
            if project is None or any(happening.layout for happening in fresh):
                with outcome.working("parse"):
                    project = builder.load().project
            with outcome.working("builds"):
                _build_all(builder, project, outcome, job, at)
            if job in again:
                cold.costs.append(in_process(place.folder, ["build"]))
                cpu_of_cold += cold.costs[-1].cpu
    outcome.cpu += child_cpu() - before - cpu_of_cold
    return outcome, cold


def _build_all(builder: DbtBuilder, project: Project, outcome: Outcome, job: int, at: float) -> None:
    graph, deadline = project.graph, time.monotonic() + PATIENCE
    builder.start(Piece(f"job-{job}.1", f"job-{job}", tuple(graph.nodes), tuple(graph.tests), ""), project)
    outcome.jobs += 1
    while time.monotonic() < deadline:
        for report in builder.reports():
            if isinstance(report, NodeEnded):
                assert report.status == "success", report
                outcome.built.append(Built(at, report.node.split(".")[2]))
            elif isinstance(report, TestEnded):
                assert report.status == "pass", report
                outcome.tests += 1
            elif isinstance(report, PieceEnded):
                assert report.status == "done", report
                return
        time.sleep(0.005)
    raise RuntimeError("dbt has said nothing for two minutes")


def selectors(
    place: Place, happenings: Sequence[Happening], jobs: int, sampled: int, imported: Imported
) -> tuple[Outcome, Sampled]:
    """Every hour `dbt source freshness` and a build of `state:modified+ source_status:fresher+` against what the last
    job left. Each job is carried out; `sampled` of them, and the first, are measured as users run them.
    """
    outcome, measured, chosen = Outcome(until=START + jobs * HOUR), Sampled(), sample(jobs, sampled)
    for job, at, fresh in hours(happenings, jobs):
        for happening in fresh:
            place.happen(happening)
        costs = [
            _command(place.folder, command, imported, timed=job in chosen or not job)
            for command in (FRESHNESS, SELECTED if job else ["build"])
        ]
        _take(place.folder, outcome, at)
        spent = [cost for cost in costs if cost is not None]
        if spent and job:
            measured.costs.append(Cost(sum(c.wall for c in spent), sum(c.cpu for c in spent)))
        outcome.wall += sum(cost.wall for cost in spent) * (not job)
        outcome.cpu += sum(cost.cpu for cost in spent) * (not job)
    mean = measured.mean()
    outcome.wall += mean.wall * jobs
    outcome.cpu += mean.cpu * jobs
    return outcome, measured


def _command(folder: Path, command: list[str], imported: Imported, *, timed: bool) -> Cost | None:
    if timed:
        return in_process(folder, command)
    imported(folder, command)
    return None


def _take(folder: Path, outcome: Outcome, at: float) -> None:
    """Note what was built, and keep what the next job compares with."""
    outcome.jobs += 1
    results = folder / "target" / "run_results.json"
    for result in json.loads(results.read_text())["results"]:
        kind, _, name = result["unique_id"].split(".")[:3]
        if kind == "test":
            assert result["status"] == "pass", result
            outcome.tests += 1
        else:
            assert result["status"] == "success", result
            outcome.built.append(Built(at, name))
    results.unlink()
    (folder / "before").mkdir(exist_ok=True)
    for name in ("manifest.json", "sources.json"):
        shutil.copyfile(folder / "target" / name, folder / "before" / name)
