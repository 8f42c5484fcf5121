"""What holds for every test: properties draw the same examples every time.

``pytest --hypothesis-profile=explore`` draws fresh ones, and more: for campaigns, not for CI.
"""

import pytest
from hypothesis import settings

settings.register_profile("fixed", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None, print_blob=True)
settings.load_profile("fixed")


def pytest_generate_tests(metafunc):
    """Run what is marked ``both`` on the golden engine and on gates."""
    mark = metafunc.definition.get_closest_marker("both")
    if mark:
        marks = [pytest.mark.rtl, *([pytest.mark.campaign] if mark.kwargs.get("campaign") else [])]
        engines = ["golden", pytest.param("gates", marks=marks)]
        metafunc.parametrize("engine", engines, indirect=True)


@pytest.fixture
def engine(request):
    """Which engine a test marked ``both`` runs on now; golden for every other."""
    return getattr(request, "param", "golden")
