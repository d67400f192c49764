"""Policies compared: the same happenings, recorded or made from rates, replayed under each of them on the real engine.

`trace` is what happened, from a `recording` or a `tracefile` of `rates`; a `variant` is a policy; `replay` runs it;
`staleness` measures what it served; `results` are the numbers, `chart` the picture, `recommend` the proposals.
"""
