"""Which identity the code of a node or test has: the one on record wherever it can be shown to do the same.

Identities are given by comparison and kept. The same inputs have the identity on record, whatever version of dbt, of
sqlglot or of this software is there; other inputs have the identity of a state of the node whose compiled SQL says the
same and of which nothing else differs; failing that, one of their own. A state that comes to be rendered otherwise
leaves an identity that it shares. So an identity never means two things, and in doubt it is a new one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from sao_events.core.lineage import digest


@dataclass(frozen=True, slots=True)
class Inputs:
    """What is known of a node or test before it is compiled. `whole` is the digest of everything it is made from;
    `rest` of what its compiled SQL does not show (configuration, hooks ...). `doubt` says why its SQL may not stand for
    it, empty where it may; `twice`: it renders differently once its table is there; `asks`: it may ask the warehouse
    while it renders.
    """

    whole: str
    rest: str = ""
    doubt: str = "it is not made of SQL"
    twice: bool = False
    asks: bool = False


@dataclass(frozen=True, slots=True)
class Rendered:
    """The SQL that dbt makes of a node or test, `again` once its table is there; or the `doubt` why there is none."""

    sql: str = ""
    again: str = ""
    doubt: str = ""


@dataclass(frozen=True, slots=True, order=True)
class Known:
    """A state of a node or test on record: its inputs (`Inputs.whole`, `.rest`), the identity that they have, and the
    digests of the SQL that came of them, rendered as `key` says (by which dbt, over which ephemeral models); empty
    where there is none that stands for it: `doubt` says why.
    """

    node: str
    inputs: str
    identity: str
    rest: str = ""
    key: str = ""
    compiled: str = ""
    again: str = ""
    doubt: str = ""


Same = Callable[[str, str], bool]  # whether two texts of SQL, given by their digests, say the same


def text_digest(text: str) -> str:
    """The name under which a text is stored."""
    return digest(text)


def recorded(name: str, inputs: Inputs, known: Known | None, key: str, rendered: Rendered | None) -> Known:
    """The record of a state, with the identity that it has on record, or one of its own."""
    base = known or Known(name, inputs.whole, inputs.whole)
    base = replace(base, rest=inputs.rest, compiled="", again="", doubt=inputs.doubt)
    if rendered is None and not inputs.doubt:
        return base  # without a key: it is asked for again
    if rendered is None or rendered.doubt:
        return replace(base, key=key, doubt=inputs.doubt or (rendered.doubt if rendered else ""))
    again = text_digest(rendered.again) if rendered.again else ""
    return replace(base, key=key, compiled=text_digest(rendered.sql), again=again)


def settled(new: Known, before: Iterable[Known], same: Same) -> Known:
    """`new`, a state without an identity on record, with that of the newest state `before` it that does the same."""
    return next((replace(new, identity=old.identity) for old in before if _says_the_same(old, new, same)), new)


def rendered_again(new: Known, old: Known, states: Callable[[], Iterable[Known]], same: Same) -> Known:
    """`new`, the state `old` rendered again (by another dbt, over other ephemeral models), with its identity. It gets
    one of its own where other `states` of its node have that too, since they once rendered the same, and it no longer
    shows that it says what it said: what was built from one of them may not stand for another.
    """
    if _says_the_same(old, new, same):
        return new
    if not any(one.identity == old.identity and one.inputs != old.inputs for one in states()):
        return new
    return replace(new, identity=digest(new.inputs, new.key, old.identity))


def _says_the_same(old: Known, new: Known, same: Same) -> bool:
    comparable = old.compiled and new.compiled and bool(old.again) == bool(new.again) and old.rest == new.rest
    texts = ((old.compiled, new.compiled), (old.again, new.again))
    return bool(comparable) and all(before == after or same(before, after) for before, after in texts)


def keys(reads: Mapping[str, Iterable[str]], inputs: Mapping[str, Inputs], folded: set[str], by: str) -> dict[str, str]:
    """For each of `reads`, parents first, what its compiled SQL depends on: its inputs, the models `folded` into it,
    and what it is rendered `by`.
    """
    found: dict[str, str] = {}
    for name, parents in reads.items():
        if name in inputs:
            inner = [found[parent] for parent in parents if parent in folded and parent in found]
            found[name] = digest(inputs[name].whole, by, *inner)
    return found
