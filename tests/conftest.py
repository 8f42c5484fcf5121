"""What holds for every test: properties draw the same examples every time.

``pytest --hypothesis-profile=explore`` draws fresh ones, and more: for campaigns, not for CI.
"""

from hypothesis import settings

settings.register_profile("fixed", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None, print_blob=True)
settings.load_profile("fixed")
