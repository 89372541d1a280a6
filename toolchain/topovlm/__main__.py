"""`python -m topovlm`."""

import sys

from topovlm.cli import main

sys.exit(main())
