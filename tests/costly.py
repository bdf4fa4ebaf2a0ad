"""Work for the tests of budgets: pure functions, as those that run within one are."""

import re
import time


def work(seconds: float) -> str:
    began = time.process_time()
    while time.process_time() - began < seconds:
        pass
    return "done"


def eat(size: int) -> int:
    return len(bytearray(size))


def search(pattern: str, text: str) -> bool:
    return re.search(pattern, text) is not None
