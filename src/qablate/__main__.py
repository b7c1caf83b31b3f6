"""`python -m qablate`: the command line."""

import sys

from qablate.cli import main

sys.exit(main())
