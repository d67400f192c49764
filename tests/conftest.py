"""For all tests: what hypothesis tries may take as long as it takes, whatever else the machine does."""

from hypothesis import settings

settings.register_profile("sao", deadline=None)
settings.load_profile("sao")
