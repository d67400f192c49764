"""What a comparison is about, from what is given: a project and its history become a trace and settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sao_events.compare.recording import STATE_FILE, Recording, read_recording, trace_of
from sao_events.compare.trace import Durations, Trace, measured
from sao_events.compare.tracefile import read_trace
from sao_events.core import events as e
from sao_events.core.errors import DbtError, GraphError, PolicyError, UsageError
from sao_events.core.graph import Graph
from sao_events.core.policy import Settings
from sao_events.core.project import Project, project_from_bytes
from sao_events.scenario import Scenario, read_scenarios
from sao_events.simulate import Simulation

DAYS = 7.0


@dataclass(frozen=True, slots=True)
class Given:
    """The trace, the environment's settings, and the project whose policies are today's; None: the trace's last."""

    trace: Trace
    settings: Settings
    today: Project | None = None


def gather(
    *,
    settings: Settings,
    state_dir: Path,
    variables: Mapping[str, Any] | None = None,
    scenario: Path | None = None,
    manifest: Path | None = None,
    log: Path | None = None,
    trace: Path | None = None,
    days: float | None = None,
    seed: int = 0,
) -> Given:
    """The project of `manifest`, else of `scenario`, else the one on record in `state_dir`; its history from `trace`,
    else `log`, else the scenario's own events or the log in `state_dir`. Build times come from the log that is there.

    Raises UsageError where that leaves nothing, ConfigError and DbtError for files that are wrong.
    """
    played = _only(scenario) if scenario else None
    settings = played.settings if played else settings
    project = _read(manifest, settings, variables) if manifest else played.project() if played else None
    recording = _recording(log, state_dir if not played else None)
    if trace is not None:
        project = project or _last(recording, state_dir)
        made = read_trace(trace, project, days=days or DAYS, seed=seed)
        known = _durations(played) if played else measured(recording.events) if recording else Durations()
        return Given(replace(made, durations=made.durations.over(known)), _limited(settings, project))
    if played is not None and log is None:
        return Given(_scenario_trace(played), settings)
    if recording is None:
        raise UsageError(
            f"there is no history to replay: no log in {state_dir}",
            hint="give --trace TRACE.yaml with rates, or --log with the state folder of a service",
        )
    made = trace_of(recording, project=project, days=days)
    return Given(made, _limited(settings, project or made.project), project)


def _limited(settings: Settings, project: Project) -> Settings:
    """A DuckDB file takes one process at a time, so the service makes one run at a time there; so do we."""
    return replace(settings, max_concurrent_runs=1) if project.adapter == "duckdb" else settings


def _only(path: Path) -> Scenario:
    found = list(read_scenarios(path))
    if len(found) != 1:
        names = ", ".join(scenario.name for scenario in found)
        raise UsageError(f"{path}: policies are compared on one scenario, this file has {len(found)}: {names}")
    return found[0]


def _read(manifest: Path, settings: Settings, variables: Mapping[str, Any] | None) -> Project:
    from sao_events.dbt.manifest import read_project
    from sao_events.dbt.shape import read_strictly

    body = read_strictly(manifest)
    try:
        project = read_project(body, vars=variables or {}, default=settings.default_config)
        _check_relations(project.graph)
        return project
    except (DbtError, GraphError, PolicyError) as error:
        raise type(error)(f"{manifest}: {error.message}", hint=error.hint) from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        said = f"{manifest} is not as dbt writes it: {type(error).__name__}: {error}"
        raise DbtError(said, hint="write it anew with dbt parse") from None


def _check_relations(graph: Graph) -> None:
    """Raises GraphError where two nodes make one relation, as dbt does: each would build over the other for ever."""
    made: dict[str, str] = {}
    for node in graph.nodes.values():
        if node.relation and not node.id.startswith("function."):
            first = made.setdefault(node.relation.casefold(), node.id)
            if first != node.id:
                raise GraphError(f"two nodes make {node.relation}: {first} and {node.id}", about=node.id)


def _recording(log: Path | None, state_dir: Path | None) -> Recording | None:
    if log is not None:
        return read_recording(log)
    return read_recording(state_dir) if state_dir is not None and (state_dir / STATE_FILE).is_file() else None


def _last(recording: Recording | None, state_dir: Path) -> Project:
    """The project that the recording had in the end."""
    events = [item.event for item in recording.events] if recording else []
    loads = [event.project for event in events if isinstance(event, e.ProjectLoaded)]
    found = recording.projects.get(loads[-1]) if recording and loads else None
    if found is None:
        raise UsageError(
            f"no project is given, and none is on record in {state_dir}",
            hint="give --manifest target/manifest.json, a scenario file, or --state-dir of a service",
        )
    return found


def _durations(scenario: Scenario) -> Durations:
    return Durations({name: scenario.duration(name) for name in scenario.nodes})


def _scenario_trace(scenario: Scenario) -> Trace:
    """The scenario's own events: it is run, and its log taken as a recording."""
    until, durations = scenario.expected.until, _durations(scenario)
    simulation = Simulation(scenario)
    log = simulation.run().log
    digests = {item.event.project for item in log if isinstance(item.event, e.ProjectLoaded)}
    projects = {digest: project_from_bytes(simulation.store.get_project(digest)) for digest in digests}
    return replace(trace_of(Recording(log, projects, scenario.name), until=until), durations=durations)
