"""Ctrl-C at a chosen line of chosen modules.

    with Interrupt(17, [log_module, segment_module]):
        log.append(...)                  # KeyboardInterrupt at the 17th line that runs in them

Not at `with` and `try` themselves: a tracer can raise there between the end of a block and the
release of its lock, where Python looks for no signals.
"""

from __future__ import annotations

import linecache
import sys
from collections.abc import Iterable
from types import FrameType, ModuleType
from typing import Any


class Interrupt:
    """A context in which KeyboardInterrupt comes at the n-th line."""

    def __init__(self, line: int, modules: Iterable[ModuleType]) -> None:
        self.left = line
        self.files = {module.__file__ for module in modules}

    def __enter__(self) -> Interrupt:
        self.before = sys.gettrace()
        sys.settrace(self.trace)
        return self

    def __exit__(self, *exception: object) -> None:
        sys.settrace(self.before)

    def trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename not in self.files:
            return None
        line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
        if event == "line" and not line.lstrip().startswith(("with ", "try:")):
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
        return self.trace
