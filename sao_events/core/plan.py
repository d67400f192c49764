"""The pass over the graph, and the plan: the same pass as the decision, counting each planned build as done, so that
readers join the run of their upstreams.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Set
from math import nextafter

from sao_events.core import checks
from sao_events.core.decide import arrived_since, decide_node, rules
from sao_events.core.decision import NO_NEW_DATA, VIEW_UNCHANGED, Action, Decision, Reason, earliest
from sao_events.core.events import Observed
from sao_events.core.evolve import succeeded
from sao_events.core.falling import FALLING, WITH_VIEWS_THAT_FALL, replaced
from sao_events.core.graph import Graph
from sao_events.core.lineage import Code, spares
from sao_events.core.look import Look
from sao_events.core.nodes import Test
from sao_events.core.policy import Settings
from sao_events.core.records import record, replace
from sao_events.core.state import Attempt, Job, NodeState, World

FORGETS = frozenset({Reason.forced, Reason.state_cleared, Reason.first_build, Reason.relation_missing})


@record
class Plan:
    """What one run would do: `nodes` to build in graph order, `tests` to run, and the decision for every node that
    was looked at.
    """

    nodes: tuple[str, ...]
    tests: tuple[str, ...]
    decisions: dict[str, Decision]

    @property
    def wakes(self) -> float | None:
        """The earliest instant at which a wait ends by itself."""
        return min((d.eligible_at for d in self.decisions.values() if d.eligible_at is not None), default=None)


def decide(graph: Graph, world: World, settings: Settings, now: float) -> dict[str, Decision]:
    """The decision for every node of `graph` on the record of `world` at the instant `now`, in graph order. Total and
    pure.
    """
    held = held_back(graph, world, settings, now)
    return _pass(Look(graph, world, settings, now), held, graph.nodes, only=()).decisions


def plan(
    graph: Graph,
    world: World,
    settings: Settings,
    now: float,
    *,
    job: Job | None = None,
    claimed: Collection[str] = (),
    only: Collection[str] | None = None,
) -> Plan:
    """Decide at `now` for `job`, or for the service itself, and collect what is to be built.

    `claimed` nodes belong to other runs: they are neither planned nor counted as done. `only` limits what may be
    planned, and the pass to what that is built from.
    """
    held = held_back(graph, world, settings, now, job=job, claimed=claimed, only=only)
    look = _pass(Look(graph, world, settings, now, job), held, _within(graph, only), claimed, only)
    nodes = tuple(look.assumed)
    fed = graph.looked_at(look.assumed) if graph.tests else set[str]()
    others = frozenset(claimed)
    tests = tuple(test.id for test in graph.tests.values() if is_due(look, test, fed, others, only))
    return Plan(nodes, tests, look.decisions)


def opened(graph: Graph, world: World, settings: Settings, now: float, names: Iterable[str]) -> bool:
    """Whether the window of one of the nodes ends at this very instant."""
    look = Look(graph, world, settings, nextafter(now, 0.0))
    baselines = ((graph.nodes[name], world.node(name).baseline) for name in names)
    return any(last is not None and look.opens(node, last.clock) == now for node, last in baselines)


def part(look: Look, only: Collection[str]) -> None:
    """The pass of `plan` with `only`, over these nodes and no more of what they are built from than their decisions
    depend on. What else is asked for can be added with `decide_also`.
    """
    if look.graph.lazy:
        held = held_back(look.graph, look.world, look.settings, look.now, job=look.job, only=only)
        _pass(look, held, _within(look.graph, only), (), only)
        return
    for name in look.graph.sort(only):
        decide_also(look, _depends(look, name))
        look.fallen.update(dict.fromkeys(take(look, name, (), only), name))


def decide_also(look: Look, names: Iterable[str]) -> None:
    """Decide `names` where that was not done, and before them what their decisions depend on."""
    stack, opened = list(names), set[str]()
    while stack:
        name = stack[-1]
        before = [up for up in _depends(look, name) if up not in look.decisions] if name not in opened else []
        opened.add(name)
        stack.extend(before)
        if not before and stack.pop() not in look.decisions:
            look.decisions[name] = decide_node(look, name)


def _depends(look: Look, name: str) -> list[str]:
    """The upstreams whose decisions matter for a node: whether they are ready, where it would be built or is a view."""
    node = look.graph.nodes[name]
    if not node.transparent and rules(look, node).action is not Action.build:
        return []
    return [up for up in look.graph.upstreams[name] if up in look.graph.nodes]


def held_back(
    graph: Graph,
    world: World,
    settings: Settings,
    now: float,
    *,
    job: Job | None = None,
    claimed: Collection[str] = (),
    only: Collection[str] | None = None,
) -> dict[str, float | None]:
    """Lazy nodes with new data for which no reader is due even if they were built (rule 11), with the instant at
    which one is.
    """
    if not graph.lazy:
        return {}
    within = _within(graph, only)
    look = _pass(Look(graph, world, settings, now, job), {}, within, claimed, only)
    held: dict[str, float | None] = {}
    for name in reversed(within):
        hold(look, name, held)
    return held


def hold(look: Look, name: str, held: dict[str, float | None]) -> None:
    """Enter a lazy node into `held`, or take it out, by what the pass `look` decided without laziness; the readers of
    the node have been entered.
    """
    held.pop(name, None)
    if look.graph.nodes[name].policy.lazy and look.decisions[name].reason is Reason.new_data:
        readers, called = data_readers(look.graph, name), _called(look, name)
        if called is not None and called <= look.now:
            return
        if readers and not any(_due(look, reader, held) for reader in readers):
            held[name] = earliest(called, *(_when(look, reader, held) for reader in readers))


def _called(look: Look, name: str) -> float | None:
    """The instant from which a node that was built must begin for a deadline, its own or a reader's; None where there
    is none.
    """
    last = look.world.node(name).baseline
    return earliest(*(look.begins(last.clock, *deadline) for deadline in look.leads.get(name, ()))) if last else None


def attempt(look: Look, name: str, run: str, reason: Reason, clock: float, observed: Observed | None = None) -> Attempt:
    """The build of `name` as it would start now: what it sees, what it will be built with, what its success or
    failure will mean.
    """
    node, state, observed = look.graph.nodes[name], look.state(name), observed or observe(look, name)
    code = composed(look, name, observed)
    retries = 0
    if state.failure is not None and not arrived_since(look, node, state.failure):
        retries = state.failure.retries + 1
    return Attempt(run, str(reason), look.now, clock, observed, code, retries, _advances(look, name, reason, code))


def composed(look: Look, name: str, observed: Observed) -> Code:
    """What `name` is built with: where nothing of that is new, it is what the last attempt was built with."""
    last = look.state(name).last
    if last is not None and last.observed.fingerprint == observed.fingerprint and last.observed.codes == observed.codes:
        return last.code
    return look.graph.readings[name].compose(look.graph.own_codes[name], observed.codes)


def observe(look: Look, name: str) -> Observed:
    """What a build of `name` that starts now would see."""
    graph = look.graph
    builds = {up: look.state(up).builds for up in graph.looks_at[name] if up in graph.nodes}
    return replace(compared(look, name), parts=graph.nodes[name].on_record, builds=builds)


def compared(look: Look, name: str) -> Observed:
    """Of what a build of `name` that starts now would see, all that decisions compare with."""
    graph, state = look.graph, look.state(name)
    read = {up: look.state(up).code for up in graph.upstreams[name] if up in graph.nodes}
    codes = {up: code for up, code in read.items() if code is not None}
    versions = {feed: look.position(feed) for feed in graph.feeds[name]}
    return Observed(graph.fingerprints[name], versions, codes, state.clears, state.drops)


def drops(look: Look, name: str) -> tuple[str, ...]:
    """The views that the warehouse drops when `name` is built now (rule 3). In doubt they count as dropped: they are
    missing from the moment the build begins, whatever comes of it.
    """
    falling = look.graph.falling.get(name, ())
    return falling if falling and _replaces(look, name) else ()


def drops_on_record(look: Look, name: str, aside: Collection[str]) -> tuple[str, ...]:
    """`drops`, and those of the views `aside` that stand on `name`, or on what falls with it, as they were built."""
    if not _replaces(look, name):
        return ()
    falling = look.graph.falling.get(name, ())
    found, todo = dict.fromkeys((name, *falling)), [name, *falling]
    while todo:
        below = todo.pop()
        on_it = [it for it in aside if it not in found and _stands_on(look.state(it), below)]
        found.update(dict.fromkeys(on_it))
        todo += on_it
    return tuple(found)[1:]


def aside(look: Look) -> tuple[str, ...]:
    """The views that stand in the warehouse as they were built, although the code in force has it otherwise: they are
    to read something else, or to be tables, once a window is over or a job asks, or have left the project. None where
    no views fall. Looks at all that is on record.
    """
    if look.graph.adapter not in WITH_VIEWS_THAT_FALL:
        return ()
    prints = look.graph.fingerprints
    standing = ((name, state.standing) for name, state in look.states.items() if _falls(state))
    return tuple(name for name, last in standing if last and prints.get(name) != last.observed.fingerprint)


def _falls(state: NodeState) -> bool:
    return state.last is not None and state.last.kind in FALLING


def _stands_on(state: NodeState, below: str) -> bool:
    return _falls(state) and state.standing is not None and below in state.standing.observed.codes


def _replaces(look: Look, name: str) -> bool:
    """Whether a build of `name` puts a new relation in the place of the old one."""
    how = replaced(look.graph.adapter, look.graph.nodes[name].kind)
    if how != "anew":
        return how == "always"
    state, refresh = look.state(name), look.job is not None and look.job.full_refresh and look.forced(name)
    same = state.baseline is not None and look.graph.fingerprints[name] == state.baseline.observed.fingerprint
    return not same or refresh or state.dropped or state.doubtful or state.failure is not None


def _advances(look: Look, name: str, reason: Reason, code: Code) -> bool:
    """Whether a successful build makes the data new: not where its only cause is a change of code that spares
    columns.
    """
    state = look.state(name)
    if reason in FORGETS or state.baseline is None or state.built_code is None:
        return True
    overdue = look.overdue(look.graph.nodes[name], state.baseline.clock)
    if overdue is not None and look.now >= overdue:
        return True
    if state.cleared or state.dropped or state.interrupted or state.code != state.built_code:
        return True
    return not spares(state.built_code, code) or any(
        look.newer(up, state.baseline.observed, quorum=False) for up in look.graph.upstreams[name]
    )


def _within(graph: Graph, only: Collection[str] | None) -> list[str]:
    return list(graph.nodes) if only is None else graph.sort(graph.ancestors(only))


def _pass(
    look: Look,
    held: dict[str, float | None],
    within: Iterable[str],
    claimed: Collection[str] = (),
    only: Collection[str] | None = None,
) -> Look:
    look.held = held
    transparent = look.graph.transparent
    for name in within:
        if look.undisturbed(name):
            look.decisions[name] = VIEW_UNCHANGED if name in transparent else NO_NEW_DATA
            continue
        for view in take(look, name, claimed, only):
            look.fallen[view] = name
    return look


def take(look: Look, name: str, claimed: Collection[str] = (), only: Collection[str] | None = None) -> tuple[str, ...]:
    """Decide a node whose parents are decided and, where it may be planned, count its build as done. Returns the views
    that fall with it.
    """
    decision = look.decisions[name] = decide_node(look, name)
    if decision.action is not Action.build or name in claimed or (only is not None and name not in only):
        return ()
    if not (look.asked(name) or name in look.fallen):
        return ()
    look.fallen.pop(name, None)
    falling = drops(look, name)
    start = attempt(look, name, "", decision.reason, look.now, compared(look, name))
    look.assumed[name] = succeeded(look.world.node(name), start, look.now, 0.0)
    return falling


def data_readers(graph: Graph, name: str) -> list[str]:
    """The nodes that own data and read `name`, views looked through; a view that nobody reads is read by people and
    counts itself.
    """
    found: set[str] = set()
    stack = list(graph.readers[name])
    while stack:
        reader = stack.pop()
        if reader not in found:
            found.add(reader)
            if graph.is_transparent(reader):
                stack.extend(graph.readers[reader])
    return [reader for reader in found if not (graph.is_transparent(reader) and graph.readers[reader])]


def _due(look: Look, reader: str, held: dict[str, float | None]) -> bool:
    if look.graph.is_transparent(reader):
        return True
    return reader in look.assumed and reader not in held


def _when(look: Look, reader: str, held: dict[str, float | None]) -> float | None:
    if reader in held:
        return held[reader]
    decision = look.decisions.get(reader)
    return decision.eligible_at if decision else None


def is_due(look: Look, test: Test, fed: Set[str], claimed: Set[str], only: Collection[str] | None = None) -> bool:
    """Whether the test belongs to the plan: it looks at what is built, or its result no longer stands and the plan is
    the place for it; `fed` is what the planned builds look at.
    """
    seen = checks.looked_at(look.graph, test)
    if not claimed.isdisjoint(seen) or not _wanted(look, test, only):
        return False
    if not look.assumed.keys().isdisjoint(seen):
        return True
    anyway = checks.asked_anyway(test, look.settings, look.job)
    if not anyway and checks.stands(look.graph, look.world, test):
        return False
    if any(unreadable(look, name) for name in seen):
        return False
    if anyway and look.job is not None:
        return test.id not in look.job.tested
    return look.job is not None or checks.outdated(look.graph, look.world, test) or not fed.isdisjoint(test.reads)


def unreadable(look: Look, name: str) -> bool:
    """Whether a test cannot look at `name`: it is not there, or what is there was not built as it should be. Another
    test that failed leaves the rows for it to look at.
    """
    if name in look.graph.sources:
        return look.unloaded(name)
    failure = look.state(name).failure
    tested = failure is not None and failure.test is not None and look.state(name).standing is not None
    lost = look.unready if tested else look.missing
    return look.graph.nodes[name].built and lost(name)


def _wanted(look: Look, test: Test, only: Collection[str] | None) -> bool:
    return (only is None or any(name in only for name in test.reads)) and (
        look.job is None or any(map(look.job.selects, test.reads))
    )
