"""For all tests: what hypothesis tries may take as long as it takes, whatever else the machine does; Ctrl-C is heard,
though a shell deafens what it starts in the background; and by day dbt is imported once for all warm ones.
"""

import signal

from hypothesis import settings

from tests.nest import hatch, own

settings.register_profile("sao", deadline=None)
settings.load_profile("sao")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
hatch(own)
