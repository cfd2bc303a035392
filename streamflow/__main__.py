"""`python -m streamflow`: the `streamflow` command."""

import sys

from streamflow.cli.main import main

sys.exit(main())
