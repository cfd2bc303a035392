"""The marks of tests that start Ray."""

import pytest

RAY = [
    pytest.mark.ray,
    # Ray's own, some of whose files are still open when it has shut down.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning"),
]
