"""``python -m smoke.diagnose LOG``: say why a server failed, by its log."""

import sys

from smoke.diagnosis.cause import main

if __name__ == "__main__":
    sys.exit(main())
