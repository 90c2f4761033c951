"""Step and Plan: the plain data that the compiler writes and the executor reads.

A step is one prepared action with the JSON pointer that asked for it. Nothing
here does anything; `plan.describe` puts steps into words, `executor` and
`cgroups` perform them.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.cgroups import CgroupPlan


class Step:
    """One action of a plan.

    Attributes:
        op: name of the operation; key of the executor's table and of the words
            in `plan.describe`.
        pointer: JSON pointer of the property that asked for it ("" = ocirun's
            own doing, needed by every container).
        args: plain values (str, int, bytes, tuple), as the operation defines.
    """

    __slots__ = ("args", "op", "pointer")

    def __init__(self, op: str, pointer: str, *args: object) -> None:
        self.op = op
        self.pointer = pointer
        self.args = args

    def __repr__(self) -> str:
        return f"Step({self.op!r}, {self.pointer!r}, {', '.join(map(repr, self.args))})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Step):
            return NotImplemented
        return (self.op, self.pointer, self.args) == (other.op, other.pointer, other.args)

    def __hash__(self) -> int:
        return hash((self.op, self.pointer, self.args))


class Hook:
    """One hook, ready to be executed.

    Attributes:
        pointer: JSON pointer of the hook.
        path: executable; in the runtime's view, for startContainer in the container's.
        args, env: as execve(2) takes them.
        timeout: seconds, or 0 for none.
    """

    __slots__ = ("args", "env", "path", "pointer", "timeout")

    def __init__(
        self, pointer: str, path: bytes, args: list[bytes], env: dict[bytes, bytes], timeout: int
    ) -> None:
        self.pointer = pointer
        self.path = path
        self.args = args
        self.env = env
        self.timeout = timeout


class Plan:
    """All that create and start will do, decided.

    Attributes:
        id, bundle, rootfs: the container's id and absolute paths.
        unshare: CLONE_* flags for the clone of the init process.
        joins: steps ("setns", kind, path) for namespaces joined by path, in order.
        time_offsets: bytes for /proc/self/timens_offsets; b"" if none.
        own_time: a time namespace of its own (made by a go-between process).
        uid_map, gid_map: text for /proc/PID/{uid,gid}_map; b"" without a new
            user namespace.
        helpers: of "uid" and "gid", the maps that newuidmap(1) and newgidmap(1) write.
        deny_setgroups: "deny" goes to /proc/PID/setgroups before the map.
        cgroup: what the parent does in the cgroup hierarchies; None if disabled.
        oom_score_adj: step for /proc/PID/oom_score_adj, or None.
        parent: rare steps of the parent, between the clone and GO.
        resctrl: directories of resctrl that are the container's own, as the steps make them.
        child: the steps of the init process, in order, up to its report that the
            container is created.
        last: its steps right before the execve. In reports they count on from `child`.
        listener: (path, metadata) of the agent that gets the listener of the seccomp
            filter; ("", "") without one.
        exec: steps of processes that `exec` brings into the container later.
        candidates: paths to try for process.args[0]; args, env: for execve(2).
        hooks: name of the hook list -> hooks.
        terminal: process.terminal; size: (height, width) or None.
        warnings: what was asked for and cannot be granted, in words.
        encoded: the plan's bytes (plan.wire), where they are known already.
    """

    def __init__(self, container_id: str, bundle: str) -> None:
        self.id = container_id
        self.bundle = bundle
        self.rootfs = ""
        self.unshare = 0
        self.joins: list[Step] = []
        self.own_time = False
        self.time_offsets = b""
        self.uid_map = b""
        self.gid_map = b""
        self.helpers: tuple[str, ...] = ()
        self.deny_setgroups = False
        self.cgroup: CgroupPlan | None = None
        self.oom_score_adj: Step | None = None
        self.child: list[Step] = []
        self.parent: list[Step] = []
        self.resctrl: list[str] = []
        self.last: list[Step] = []
        self.listener = ("", "")
        self.exec: list[Step] = []
        self.candidates: list[bytes] = []
        self.args: list[bytes] = []
        self.env: list[bytes] = []
        self.hooks: dict[str, list[Hook]] = {}
        self.terminal = False
        self.size: tuple[int, int] | None = None
        self.warnings: list[str] = []
        self.encoded: bytes | None = None
