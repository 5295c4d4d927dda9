"""`python -m murmur`: the command `murmur`, for a Python whose scripts are not on the path."""

from __future__ import annotations

import sys

from murmur.cli import main

if __name__ == "__main__":
    sys.exit(main())
