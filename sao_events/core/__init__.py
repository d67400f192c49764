"""The core: what is decided, from what is on record, the declared intent and the time. Pure: no I/O, no clock."""
