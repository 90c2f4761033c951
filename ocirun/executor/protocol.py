"""What the parent and the init process say to each other. All of it.

One SOCK_SEQPACKET socket pair, a message a packet, the first byte is its kind:

    parent                                init (new namespaces)
      |  clone3 ------------------------->  |  in the v2 cgroup already
      |                                     |  steps up to "await": mounts
      |  uid_map, gid_map, cgroups, oom     |
      |  GO + v1 cgroups -----------------> |
      |                                     |  writes itself into them, then
      |                                     |  the rest of the mounts
      | <----- TREE (3), answered TREE ---> |
      | <--------------- CONSOLE + pty (1)  |
      | <----------------------- HOOKS (2)  |
      |  prestart, createRuntime            |
      |  GO ------------------------------> |
      |                                     |  createContainer hooks, pivot_root,
      |                                     |  privileges, lookup of the command
      | <---------- LISTENER + seccomp (4)  |
      |  the agent gets it                  |
      |  GO ------------------------------> |
      | <----------------------- READY      |
      |                                     |
      |        create: both sockets close, init waits on its listening socket
      |        run: init goes straight on
      |                                     |
      |    start ---- connect, GO --------> |
      |                                     |  startContainer hooks, execve
      | <---------- end of file: executed   |
      | <---------- FAILED: not executed    |

    (1) with process.terminal   (2) with hooks of these kinds   (3) with the number of a step that
    mounts: the ids are to be mapped, in the tree that comes along, or, as init may not look
    into the source, in one that comes back; once for each such mount
    (4) with SCMP_ACT_NOTIFY: the listener itself, or its number, which the parent then takes

At any point init may say FAILED and exit. A message FAILED is binary and of
bounded size: the number of the step, errno, the name of the call, and what the
kernel wrote into the file system context's log. Text for people is made by the
parent. If either side dies the other sees the end of the file.
"""

GO = b"G"
CONSOLE = b"C"
HOOKS = b"H"
TREE = b"T"
LISTENER = b"L"
READY = b"K"
FAILED = b"E"
BORN = b"P"  # from the go-between that joins namespaces: the pid of init

MAX_MESSAGE = 4096
# What has failed: a step's number, or one of these.
CGROUP = 0x1000_0000  # from here on in the plan's cgroups to join
JOINING = 0x4000_0000  # step numbers from here on count in plan.joins
HOOK = 0x2000_0000  # and from here on in hooks.createContainer: errno is a wait status
START_HOOK = 0x3000_0000  # the same in hooks.startContainer
EXECUTE = 0x1FFF_FFFF  # the execve itself
INTERNAL = 0x1FFF_FFFE  # an exception that is no OSError: a bug

OFFSETS = "write(/proc/self/timens_offsets)"  # the call by which the go-between's report is told


def failed(step: int, error: int, call: str = "", log: bytes = b"") -> bytes:
    """The message FAILED. `error` is errno, or a wait status for hooks."""
    head = FAILED + step.to_bytes(4, "little") + (error & 0xFFFFFF).to_bytes(3, "little")
    return head + call.encode("utf-8", "replace")[:256] + b"\0" + log[-1024:]


def read_failed(message: bytes) -> tuple[int, int, str, str]:
    """(step, errno, call, log) of a message FAILED."""
    call, _, log = message[8:].partition(b"\0")
    return (
        int.from_bytes(message[1:5], "little"),
        int.from_bytes(message[5:8], "little"),
        call.decode("utf-8", "replace"),
        log.decode("utf-8", "replace"),
    )
