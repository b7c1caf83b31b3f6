"""Settings of all tests: an input of a property has no time limit, for machines are busy; Ctrl-C reaches all."""

import signal

from hypothesis import settings

settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:    # of a shell's background job, and of all that it starts
    signal.signal(signal.SIGINT, signal.default_int_handler)
