"""What ps(1) says of some processes. Cold."""

import subprocess

from ocirun.errors import OcirunError


def table(pids: list[int], arguments: list[str]) -> str:
    """The lines of ps(1), with `arguments` or -ef, that are about these processes.

    The arguments must leave the column PID. Raises OcirunError with ps's own words.
    """
    command = ["ps", *(arguments or ["-ef"])]
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, errors="replace"
        )
    except OSError as error:
        raise OcirunError(
            "ps(1) cannot be executed",
            syscall="execve",
            errno=error.errno or 0,
            hint="install it (Debian: procps), or use --format json",
        ) from None
    if done.returncode:
        raise OcirunError(f"{' '.join(command)}: {done.stderr.strip() or 'failed'}")
    head, *lines = done.stdout.splitlines() or [""]
    columns = head.split()
    if "PID" not in columns:
        raise OcirunError(
            f"{' '.join(command)} shows no column PID",
            hint="leave that column in, as in `-o pid,cmd`",
        )
    place = columns.index("PID")
    known = {str(pid) for pid in pids}
    kept = [line for line in lines if (line.split() + [""] * len(columns))[place] in known]
    return "\n".join([head, *kept]) + "\n"
