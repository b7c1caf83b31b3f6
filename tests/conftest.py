"""Settings of all tests: an input of a property has no time limit, for machines are busy."""

from hypothesis import settings

settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")
