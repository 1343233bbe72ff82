"""What the allocator gives back, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
from bessemer.memory import keep_memory
if sys.argv[1] == "kept" and not keep_memory():
    sys.exit(3)
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    bytearray(64 << 20)
before = faults()
for _ in range(3):
    bytearray(64 << 20)
print(faults() - before)
"""


def _faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", SCRIPT, how], capture_output=True, text=True, check=False)
    if done.returncode == 3:
        pytest.skip("this C library has no mallopt: it keeps or returns memory as it likes")
    return int(done.stdout)


def test_memory_that_was_freed_is_used_again_without_page_faults() -> None:
    """64 MB are at least 32 pages of 2 MB; without the setting each allocation takes them anew."""
    assert _faults("kept") < 32 <= _faults("given back")


RESIDENT = """
import sys
from bessemer.memory import give_memory_back, keep_memory
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
if not keep_memory():
    sys.exit(3)
bytearray(256 << 20), resident()
kept = resident()
give_memory_back()
print(kept - resident())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_what_was_kept_is_given_back_when_asked() -> None:
    done = subprocess.run([sys.executable, "-c", RESIDENT], capture_output=True, text=True, check=False)
    if done.returncode == 3:
        pytest.skip("this C library has no malloc_trim")
    assert int(done.stdout) > 200 << 20
