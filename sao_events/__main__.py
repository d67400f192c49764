"""`python -m sao_events` is the command `sao-events`."""

import sys

from sao_events.cli import main

if __name__ == "__main__":
    sys.exit(main())
