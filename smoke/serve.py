"""``python -m smoke.serve``: start an image as the smoke test does, and serve until it is interrupted."""

import sys

from smoke.suite.serve import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
