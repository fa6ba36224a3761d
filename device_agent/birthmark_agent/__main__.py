"""`python -m birthmark_agent` is `birthmark-agent`."""

import sys

from birthmark_agent.cli import main

sys.exit(main())
