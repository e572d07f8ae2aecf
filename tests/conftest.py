"""What all tests share."""

import signal

# A shell has Ctrl-C ignored in what it starts in the background, and children inherit that. Here it is tested.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
