"""A command of `sao-events` in a process of a nest: the warm dbt that it starts is forked too."""

import sys

from sao_events import cli
from tests.nest import branch, hatch


def main() -> None:
    """Run the command line."""
    nest = branch()
    hatch(lambda: nest)
    sys.exit(cli.main(sys.argv[1:]))
