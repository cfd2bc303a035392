"""How hard Hypothesis looks: briefly while developing, longer and repeatably in CI.

`--hypothesis-profile` overrides it.
"""

from __future__ import annotations

import os

from hypothesis import settings

# No deadline: a shared machine is slow now and then, and that is no counterexample.
settings.register_profile("dev", max_examples=30, deadline=None)
settings.register_profile("ci", max_examples=150, deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "dev")
