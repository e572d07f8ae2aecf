"""``python -m build VERB``."""

import signal
import sys

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # Ctrl-C while modules are imported ends the process, without a traceback; main() catches it from then on.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from build.cli import main

sys.exit(main(sys.argv[1:]))
