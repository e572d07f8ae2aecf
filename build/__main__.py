"""``python -m build VERB``."""

import sys

from build.cli import main

sys.exit(main(sys.argv[1:]))
