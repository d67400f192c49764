"""Python's garbage collector, kept away from what lives as long as the process."""

from __future__ import annotations

import gc


def keep_apart() -> None:
    """Take what is in memory now, a project with its state for the most part, out of the collector's rounds: over a
    large one each takes longer than a decision. What nobody refers to any more is still freed.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
