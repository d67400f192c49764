"""Policies compared: the same happenings, recorded or made from rates, replayed under each of them on the real engine.

`trace` is what happened, from a `recording` or a `tracefile` of `rates`, `given` finds it; a `variant` is a policy;
`replay` runs it with the builds of a `timetable`; `staleness` measures what it served; `results` are the numbers,
`chart` the picture, `recommend` the proposals and `snippet` their YAML.
"""
