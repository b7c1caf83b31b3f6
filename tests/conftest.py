"""Settings of all tests: an input of a property has no time limit, for machines are busy; Ctrl-C reaches all."""

import signal

from hypothesis import HealthCheck, settings

settings.register_profile("no deadline", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no deadline")
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:    # of a shell's background job, and of all that it starts
    signal.signal(signal.SIGINT, signal.default_int_handler)
