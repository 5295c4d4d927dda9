"""What holds for every test: Hypothesis without deadlines, since these machines are noisy."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("murmur", deadline=None)
settings.load_profile("murmur")
