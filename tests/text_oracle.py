"""Whether SQL that is said to be the same gives the same: random queries, random edits of their text, run on DuckDB.

    python -m tests.text_oracle CASES [SEED]

Each query is edited in many ways: some say nothing (space, comments, case, other spellings of a join or a cast), some
do (a word left out, put in, exchanged), and most are not labelled at all: what they do is seen when both texts are run
on the same data. Wherever the text of a template or compiled SQL is said to be the same, columns, types and rows are.
An edit that the database refuses counts as one that changes something. Prints the seed of what does not hold.
"""

from __future__ import annotations

import random
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence

import duckdb
from sqlglot.dialects.dialect import Dialect

from sao_events.core.fingerprint import canonical
from sao_events.core.sqltext import same_sql
from tests.random_queries import Maker, everything, fill

EDITS = 8  # of each query
COMMENTS = ("-- and\n", "/* or */", "-- it's\n", '/* "x */', "/**/", "--\n", "-- ; select 1\n", "/* -- */", "-- /*\n")
SPACES = (" ", "\n", "\t", "  ", "\r\n", " \n\t ")
WORDS = (
    *("distinct", "all", "not", "null", "left", "outer", "inner", "asc", "desc", "as", "is", "and", "or", "limit 1"),
    *(
        "nulls first",
        "::bigint",
        "::varchar",
        "-",
        "+",
        "1",
        "0",
        "''",
        "x",
        "id",
        "true",
        "filter (where x > 1)",
        "on",
    ),
    *(
        "natural",
        "lateral",
        "exclude (id)",
        "union",
        "except",
        "over ()",
        "cross",
        ";",
        ",",
        "(",
        ")",
        ".",
        '"',
        "'",
        "*",
    ),
)
SPELLINGS = (
    ("<>", "!="), (" join ", " inner join "), (" left join ", " left outer join "),
    (" full join ", " full outer join "), (" right join ", " right outer join "), (" as ", " "), ("bigint", "BIGINT"),
    ("integer", "int"), (" union ", " union distinct "), (" left join ", " left inner join "),
    ("coalesce(", "ifnull("), ("cast(", "try_cast("), (" and ", " or "), ("rank()", "dense_rank()"), ("min(", "max("),
    ("=", "is not distinct from"), (" >= ", " > "), ("union all", "union"), ("(*)", "(1)"), ("rows ", "range "),
)  # fmt: skip
TOKENS = Dialect.get_or_raise("duckdb")


class Editor:
    """Edits of a text."""

    def __init__(self, chance: random.Random) -> None:
        self.random = chance
        self.kinds: list[Callable[[list[str]], None]] = [
            self.space, self.space, self.comment, self.comment, self.case, self.case, self.drop, self.double, self.swap,
            self.put, self.exchange, self.quote, self.bracket, self.glue,
        ]  # fmt: skip

    def edited(self, text: str) -> str:
        """The text after one to three edits."""
        if self.random.random() < 0.3:
            return self.spelled(text)
        parts = pieces(text)
        for _ in range(self.random.choice((1, 1, 2, 3))):
            self.random.choice(self.kinds)(parts)
        return "".join(parts)

    def spelled(self, text: str) -> str:
        """Other words, some of which say the same, somewhere or everywhere."""
        fitting = [pair for both in SPELLINGS for pair in (both, both[::-1]) if pair[0] in text]
        if self.random.random() < 0.3:
            return re.sub(r"cast\(((?:[^()]|\([^()]*\))+) as (\w+)\)", r"\1::\2", text)
        if self.random.random() < 0.3 or not fitting:
            return re.sub(r"(\w+|\([^()]*\))::(\w+)", r"cast(\1 as \2)", text)
        old, new = self.random.choice(fitting)
        places = [match.start() for match in re.finditer(re.escape(old), text)]
        at = self.random.choice(places)
        return text.replace(old, new) if self.random.random() < 0.4 else text[:at] + new + text[at + len(old) :]

    def at(self, parts: list[str]) -> int:
        """The place of a word."""
        return self.random.randrange(0, len(parts), 2)

    def space(self, parts: list[str]) -> None:
        """Another space between two words."""
        at = self.at(parts)
        parts[at] += self.random.choice(SPACES)

    def glue(self, parts: list[str]) -> None:
        """No space between two words."""
        at = self.at(parts)
        if at + 1 < len(parts):
            parts[at + 1] = ""

    def comment(self, parts: list[str]) -> None:
        """A comment between two words."""
        at = self.at(parts)
        parts[at] += self.random.choice(("", " ")) + self.random.choice(COMMENTS) + self.random.choice(("", " "))

    def case(self, parts: list[str]) -> None:
        """Another case of one word, or of each such word."""
        at = self.at(parts)
        old, new = parts[at], self.random.choice((str.upper, str.capitalize))(parts[at])
        if self.random.random() < 0.5:
            parts[at] = new
        else:
            parts[:] = [new if part == old else part for part in parts]

    def drop(self, parts: list[str]) -> None:
        """One word less."""
        parts[self.at(parts)] = ""

    def double(self, parts: list[str]) -> None:
        """One word twice."""
        at = self.at(parts)
        parts[at] = f"{parts[at]} {parts[at]}"

    def swap(self, parts: list[str]) -> None:
        """Two words in each other's place."""
        one, two = self.at(parts), self.at(parts)
        if self.random.random() < 0.5:
            two = min(one + self.random.choice((2, 4)), (len(parts) - 1) // 2 * 2)
        parts[one], parts[two] = parts[two], parts[one]

    def put(self, parts: list[str]) -> None:
        """One word more."""
        at = self.at(parts)
        parts[at] += f" {self.random.choice(WORDS)}"

    def exchange(self, parts: list[str]) -> None:
        """Another word of the query in the place of a word."""
        parts[self.at(parts)] = parts[self.at(parts)] if self.random.random() < 0.7 else self.random.choice(WORDS)

    def quote(self, parts: list[str]) -> None:
        """A word in quotes of either kind."""
        at, mark = self.at(parts), self.random.choice(('"', '"', "'"))
        parts[at] = f"{mark}{parts[at]}{mark}"

    def bracket(self, parts: list[str]) -> None:
        """Parentheses around one word, or several."""
        at = self.at(parts)
        end = min(at + self.random.choice((0, 0, 4)), (len(parts) - 1) // 2 * 2)
        parts[at], parts[end] = f"({parts[at]}", f"{parts[end]})"


def pieces(text: str) -> list[str]:
    """Words and what is between them, in turn."""
    found, end = list[str](), 0
    for token in TOKENS.tokenize(text):
        if found:
            found.append(text[end : token.start])
        end = token.end + 1
        found.append(text[token.start : end])
    return found


def outcome(connection: duckdb.DuckDBPyConnection, text: str) -> object:
    """Columns, types and rows of a query; None where it cannot be run."""
    try:
        connection.execute("select setseed(0.5)")
        connection.execute(f"create or replace table result as {text.rstrip().rstrip(';')}\n")
    except (duckdb.Error, UnicodeError):
        return None
    return everything(connection, "result")


def case(seed: int, found: Counter[str]) -> list[str]:
    """What does not hold of some edits of one query; counts in `found` what was said."""
    maker = Maker(seed)
    editor = Editor(maker.random)
    with duckdb.connect(":memory:") as connection:
        connection.execute("set threads = 1")
        fill(connection, maker.random)
        old = maker.model(maker.tables()).sql()
        before = outcome(connection, old)
        if before is None:
            found["not valid"] += 1
            return []
        problems = []
        for _ in range(EDITS):
            new = editor.edited(old)
            if new == old:
                continue
            found["cases"] += 1
            after = outcome(connection, new)
            found["edits that change the result"] += before != after
            found["edits that do not"] += before == after
            said = {
                "compiled": same_sql(old, new, "duckdb") or same_sql(new, old, "duckdb"),
                "template": canonical(old, dialect="duckdb") == canonical(new, dialect="duckdb"),
            }
            for what in (what for what, same in said.items() if same):
                found[f"{what} said to be the same"] += 1
                if before != after:
                    problems.append(f"{what} said to be the same\n  {old}\n  {new!r}\n  {before}\n  {after}")
        return problems


def main(arguments: Sequence[str]) -> int:
    """Run as many edits; 1 where something does not hold."""
    cases = int(arguments[0]) if arguments else 5000
    first = int(arguments[1]) if len(arguments) > 1 else random.SystemRandom().randrange(10**9)
    found, wrong, seed = Counter[str](), 0, first
    while found["cases"] < cases:
        for problem in case(seed, found):
            wrong += 1
            print(f"seed {seed}: {problem}")
        seed += 1
    print(f"seeds {first} to {seed - 1}: {wrong} violations; {dict(sorted(found.items()))}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
