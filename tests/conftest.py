"""For all tests: Hypothesis as CI and shared machines need it."""

import os

from hypothesis import settings

# No deadline: how long one example takes says more about the machine than about the code. In CI the examples are the
# same in every run, so that a red build can be repeated; elsewhere they are new each time, so that bugs are found.
settings.register_profile("slicewise", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("slicewise")
