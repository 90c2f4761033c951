"""Seccomp profiles as engines make them, and an interpreter of filter programs.

The interpreter knows the instructions of classic BPF that filters consist of
(linux/bpf_common.h); what it does not know is an error.
"""

import json
from pathlib import Path
from typing import Any

PROFILES = Path(__file__).with_name("profiles")
PODMAN = Path("/usr/share/containers/seccomp.json")
ARCHITECTURE = "amd64"
# What Docker gives a container, as far as profiles ask for it.
CAPABILITIES = frozenset({"CAP_CHOWN", "CAP_KILL", "CAP_SYS_CHROOT", "CAP_AUDIT_WRITE"})

X86_64, X86, ARM, S390X = 0xC000003E, 0x40000003, 0x40000028, 0x80000016
X32_BIT = 0x40000000
MASK = 0xFFFFFFFF


def docker_profile(capabilities: frozenset[str] = CAPABILITIES) -> dict[str, Any]:
    """linux.seccomp as Docker writes it on x86-64."""
    return section_of(json.loads((PROFILES / "docker.json").read_text()), capabilities)


def podman_profile(capabilities: frozenset[str] = CAPABILITIES) -> dict[str, Any]:
    """linux.seccomp as Podman writes it on x86-64; its profile must be installed."""
    return section_of(json.loads(PODMAN.read_text()), capabilities)


def section_of(profile: dict[str, Any], capabilities: frozenset[str]) -> dict[str, Any]:
    """Pick what a profile has for this architecture and these capabilities."""
    section: dict[str, Any] = {
        "defaultAction": profile["defaultAction"],
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [],
    }
    if profile.get("defaultErrnoRet") is not None:
        section["defaultErrnoRet"] = profile["defaultErrnoRet"]
    for rule in profile["syscalls"]:
        wanted, barred = rule.get("includes") or {}, rule.get("excludes") or {}
        if (
            ARCHITECTURE in wanted.get("arches", [ARCHITECTURE])
            and capabilities.issuperset(wanted.get("caps", ()))
            and ARCHITECTURE not in barred.get("arches", ())
            and capabilities.isdisjoint(barred.get("caps", ()))
        ):
            keys = ("names", "action", "errnoRet", "args")
            section["syscalls"].append({key: rule[key] for key in keys if rule.get(key)})
    return section


def decide(program: bytes, arch: int, number: int, *args: int) -> int:
    """What a filter returns for a system call."""
    data = [number & MASK, arch, 0, 0]
    for arg in (*args, *[0] * (6 - len(args))):
        data += [arg & MASK, arg >> 32 & MASK]
    place = accumulator = 0
    while True:
        at = 8 * place
        operation, true, false = (
            program[at] | program[at + 1] << 8,
            program[at + 2],
            program[at + 3],
        )
        value = int.from_bytes(program[at + 4 : at + 8], "little")
        place += 1
        if operation == 0x20:  # ld [k]
            assert value % 4 == 0
            accumulator = data[value // 4]
        elif operation == 0x54:  # and k
            accumulator &= value
        elif operation == 0x05:  # ja
            place += value
        elif operation == 0x06:  # ret k
            return value
        else:
            met = {
                0x15: accumulator == value,
                0x25: accumulator > value,
                0x35: accumulator >= value,
                0x45: bool(accumulator & value),
            }[operation]
            place += true if met else false
