"""The steps of a random history: what happens, drawn from its seed. Timing is the machine's own."""

from __future__ import annotations

import time
from collections.abc import Callable
from random import Random

from tests.oracle.history import History
from tests.oracle.scratch import Relation

Step = Callable[[History, Random], None]


def play(history: History, seed: str, length: int) -> None:
    """Begin the history, take `length` steps, and hold it against a full build now and then and at its end."""
    history.begin()
    if Random(f"{seed}/start").random() < 0.7:
        history.rest()
    for number in range(length):
        rng = Random(f"{seed}/{number}")
        history.rng = rng
        rng.choice(STEPS)(history, rng)
        history.counts.steps += 1
        pause(history, rng)
    history.rng = Random(f"{seed}/end")
    history.check(whole=True)
    history.audit()


def pause(history: History, rng: Random) -> None:
    """None, a little, until a build is under way, until all is done; the service is up again after most."""
    kind = rng.choice(("none", "none", "little", "little", "busy", "busy", "rest"))
    if rng.random() < 0.8:
        history.up()
    if kind == "little":
        time.sleep(rng.uniform(0.0, 1.0))
    elif kind == "busy":
        history.wait_until_busy()
    elif kind == "rest":
        history.rest()


def land(history: History, rng: Random) -> None:
    """Loads, each told at once, later, or twice."""
    for source in rng.sample(history.subject.sources, rng.choice((1, 1, 2))):
        history.land(source, late=rng.random() < 0.2, twice=rng.random() < 0.2)


def edit(history: History, rng: Random) -> None:
    """One commit with some edits."""
    history.save("; ".join(history.subject.edit(rng) for _ in range(rng.choice((1, 1, 1, 2, 3)))))


def back(history: History, rng: Random) -> None:
    """The last commit is taken back."""
    if what := history.subject.back():
        history.save(what)


def there_and_back(history: History, rng: Random) -> None:
    """A commit whose builds are killed, and which is taken back before the service is up again."""
    history.save(history.subject.edit(rng))
    history.wait_until_busy()
    time.sleep(rng.uniform(0.0, 0.5))
    history.kill(rng.choice(("service", "all")))
    if rng.random() < 0.7:
        back(history, rng)
    history.up()


def mend(history: History, rng: Random) -> None:
    """What fails is repaired."""
    if history.subject.mend():
        history.save("mended")


def kill(history: History, rng: Random) -> None:
    """Processes are killed, now or in the middle of a build."""
    history.up()
    if rng.random() < 0.7:
        history.land(rng.choice(history.subject.sources))
        history.wait_until_busy()
        time.sleep(rng.uniform(0.0, 0.6))
    history.kill(rng.choice(("service", "service", "all", "all", "dbt", "term")))


def later(history: History, rng: Random) -> None:
    """Time passes."""
    seconds = rng.choice((60, 600, 1800, 3600, 6 * 3600))
    history.say(f"{seconds} s pass")
    history.process.put_ahead(seconds)


def tell(history: History, rng: Random) -> None:
    """Events that were late arrive."""
    history.tell_late()


def job(history: History, rng: Random) -> None:
    """A job asks for everything or for some nodes; it may force."""
    nodes = _known(history)
    select = tuple(rng.sample(nodes, min(len(nodes), rng.randint(1, 3)))) if nodes and rng.random() < 0.5 else None
    history.job(forced=rng.random() < 0.4, select=select)


def clear(history: History, rng: Random) -> None:
    """The state of some nodes is forgotten."""
    if nodes := _known(history):
        history.clear(tuple(rng.sample(nodes, min(len(nodes), 2))))


def drop(history: History, rng: Random) -> None:
    """Somebody drops a relation while nothing runs, and says so."""
    history.rest()
    if relations := _relations(history):
        history.drop(rng.choice(relations))


def clean(history: History, rng: Random) -> None:
    """Models leave, and what they have left behind is dropped; at times they come back."""
    history.rest()
    for _ in range(4):
        history.save(history.subject.edit(rng))
    history.rest()
    history.clean()
    if rng.random() < 0.5:
        back(history, rng)
    history.up()


def cancel(history: History, rng: Random) -> None:
    """A run is stopped."""
    history.up()
    history.land(rng.choice(history.subject.sources))
    history.wait_until_busy()
    for run in list(history.world.runs):
        history.cancel(run)


def check(history: History, rng: Random) -> None:
    """Come to rest in the middle, with whatever fails, and compare what is reused."""
    history.check(whole=rng.random() < 0.3)


def _known(history: History) -> list[str]:
    return sorted(history.project.graph.nodes) if history.world.project else []


def _relations(history: History) -> list[Relation]:
    """Relations that can be dropped without losing history."""
    found = []
    for node in history.project.graph.nodes.values():
        parts = (node.relation or "").replace('"', "").split(".")
        if node.built and node.kind != "snapshot" and len(parts) == 3:
            found.append(Relation(node.id, parts[1], parts[2], False))
    return sorted(found, key=lambda relation: relation.node)


STEPS: tuple[Step, ...] = (
    *(land,) * 8,
    *(edit,) * 8,
    *(kill,) * 3,
    *(there_and_back,) * 2,
    *(later,) * 2,
    *(back, back, mend, mend, tell, job, job, clear, drop, clean, cancel, check, check),
)
