"""``python -m smoke.diff OLD NEW``: which source files two images hold otherwise, as a JSON document."""

import sys

from smoke.suite.diff import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
