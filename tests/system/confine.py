"""Puts on itself what a systemd unit would, then becomes the command: `confine.py JSON COMMAND...`.

JSON: {"syscalls": [...], "families": [...]}: the system calls and address families allowed, everything else is EPERM
(systemd.exec(5) SystemCallFilter=, RestrictAddressFamilies=), on top of no writable memory becoming executable
(MemoryDenyWriteExecute=). Runs inside the image, so it uses nothing but the standard library and libseccomp.
"""

import ctypes
import errno
import json
import os
import socket
import sys

PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1
SCMP_ACT_ALLOW, SCMP_ACT_ERRNO = 0x7FFF0000, 0x00050000
SCMP_CMP_EQ = 4
UNKNOWN = -1


class Comparison(ctypes.Structure):
    """struct scmp_arg_cmp (seccomp_rule_add(3))."""

    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


def confine(syscalls: list[str], families: list[str]) -> None:
    if ctypes.CDLL(None).prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0) != 0:
        sys.exit("this kernel cannot refuse writable memory that becomes executable")
    seccomp = ctypes.CDLL("libseccomp.so.2")
    seccomp.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(seccomp.seccomp_init(SCMP_ACT_ERRNO | errno.EPERM))
    for name in syscalls:
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        if number != UNKNOWN and name != "socket":
            seccomp.seccomp_rule_add_array(context, SCMP_ACT_ALLOW, number, 0, None)
    for name in families:
        family = Comparison(0, SCMP_CMP_EQ, int(getattr(socket, name)), 0)
        number = seccomp.seccomp_syscall_resolve_name(b"socket")
        seccomp.seccomp_rule_add_array(context, SCMP_ACT_ALLOW, number, 1, ctypes.byref(family))
    if seccomp.seccomp_load(context) != 0:
        sys.exit("the system call filter cannot be loaded")


if __name__ == "__main__":
    allowed = json.loads(sys.argv[1])
    confine(allowed["syscalls"], allowed["families"])
    os.execv(sys.argv[2], sys.argv[2:])
