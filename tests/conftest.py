"""For all tests: what hypothesis tries may take as long as it takes, whatever else the machine does; and by day dbt is
imported once for all warm ones.
"""

from hypothesis import settings

from tests.nest import hatch, own

settings.register_profile("sao", deadline=None)
settings.load_profile("sao")
hatch(own)
