"""server.memory: a large block has a mapping of its own, also once one was freed."""

import subprocess
import sys

import pytest

# glibc's mallinfo2: ten sizes, of which the fifth is what has mappings of its own. Blocks are made and freed before.
SAYS_MAPPED = """
import ctypes, gc
from relay.server.memory import LARGE, arrange_memory
{arranged}
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
class Info(ctypes.Structure):
    _fields_ = [(f"size{{index}}", ctypes.c_size_t) for index in range(10)]
libc.mallinfo2.restype = Info
libc.free(libc.malloc(8 * LARGE))
before = libc.mallinfo2().size4
libc.malloc(LARGE)
print(libc.mallinfo2().size4 - before >= LARGE)
"""


@pytest.mark.parametrize(("arranged", "mapped"), [("arrange_memory()", "True"), ("", "False")])
def test_a_large_block_is_a_mapping_of_its_own(arranged: str, mapped: str) -> None:
    said = subprocess.run(
        [sys.executable, "-c", SAYS_MAPPED.format(arranged=arranged)], capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == mapped
