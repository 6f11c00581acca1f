"""`python -m edda` is the command `edda`."""

import sys

from edda.cli import main

sys.exit(main())
