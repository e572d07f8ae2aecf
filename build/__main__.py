"""``python -m build VERB`` in the checkout; ``python CHECKOUT/build VERB`` is the same from any folder."""

import signal
import sys
from pathlib import Path

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # Ctrl-C while modules are imported ends the process, without a traceback; main() catches it from then on.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

HERE = Path(__file__).resolve().parent
# Started by its name, the folder itself is on the path, and its modules are called like packages (`git`).
sys.path[:] = [str(HERE.parent), *(place for place in sys.path if place not in (str(HERE), str(HERE.parent)))]

from build.cli import installed  # noqa: E402 - imports depend on the path above

installed.require(sys.argv[1:])

from build.cli.main import main  # noqa: E402 - the same, and only with the packages that it needs
from build.console import PROGRAM  # noqa: E402

# The command that `install` writes starts the folder; `python -m` and nox start this file.
sys.exit(main(sys.argv[1:], program=PROGRAM if Path(sys.argv[0]).name == "__main__.py" else "llm-d-dev"))
