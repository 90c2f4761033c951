"""What only the manual pages say; all else they have from the Typer application.

An entry with names of parameters appears on the pages of the commands that have one of them.
Words in `backquotes` are set in bold.
"""

from typing import NamedTuple


class Entry(NamedTuple):
    """A file or a variable, and where it appears: on ocirun(8) always."""

    name: str
    text: str
    parameters: frozenset[str]


_CONTAINER = frozenset({"id", "quiet"})
_NEW = frozenset({"no_new_keyring"})
_CRIU = frozenset({"image_path"})
_IMAGES = frozenset({"data_root"})

DESCRIPTION = (
    "A container is made from a bundle: a folder with a `config.json`, as the OCI Runtime"
    " Specification defines it, and a root file system. Commands and options are those of runc"
    " and crun, and engines such as Podman, Docker and containerd call ocirun like them.",
    "Options may be written with one dash or with two, and their values behind a blank or an"
    " equals sign. Those of ocirun itself stand before the command. What stands behind -- is an"
    " argument. Of an option that is given more than once the last one counts.",
    "Standard output has the answer alone, and standard error the errors alone. The first line of"
    " an error is complete by itself; the next ones name the step, the line of config.json that"
    " asked for it, the system call, and what to do.",
)

DEFAULT_STATUS = ("0 if it is done, 1 if it has failed.",)
EXIT_STATUS = (
    ("0", "It is done."),
    ("1", "It has failed, or there is a mistake in the command line."),
    ("2", "`validate`: the bundle cannot be read."),
    ("130", "It was interrupted (128 + SIGINT)."),
    ("141", "Nobody has read the answer (128 + SIGPIPE)."),
    (
        "any",
        "`run`, `exec`, `restore` and `launch`: that of the container's process, or 128 + the"
        " signal that has ended it; 255 if `exec` itself has failed.",
    ),
)

FILES = (
    Entry("/run/ocirun/ID", "State of a container; --root chooses another folder.", _CONTAINER),
    Entry(
        "$XDG_RUNTIME_DIR/ocirun/ID, /tmp/ocirun-UID/ID",
        "The same of an ordinary user; the second if the variable is not set.",
        _CONTAINER,
    ),
    Entry("BUNDLE/config.json", "What the container is to be.", frozenset({"bundle"})),
    Entry(
        "/var/lib/ocirun",
        "Images, and the bundles of launched containers; --data-root chooses another folder.",
        _IMAGES,
    ),
    Entry(
        "$XDG_DATA_HOME/ocirun, ~/.local/share/ocirun",
        "The same of an ordinary user; the second if the variable is not set.",
        _IMAGES,
    ),
    Entry(
        "/etc/criu/ocirun.conf, /etc/criu/runc.conf",
        "Options for CRIU: the first that is there, unless the annotation org.criu.config of the"
        " container names another file.",
        _CRIU,
    ),
    Entry("/etc/subuid, /etc/subgid", "Ids that an ordinary user may map: subuid(5).", _NEW),
)

ENVIRONMENT = (
    Entry("XDG_RUNTIME_DIR", "Where the state of an ordinary user is: see FILES.", _CONTAINER),
    Entry("OCIRUN_DATA_ROOT", "Folder of the images, unless --data-root is given.", _IMAGES),
    Entry("XDG_DATA_HOME", "Where the images of an ordinary user are: see FILES.", _IMAGES),
    Entry(
        "LISTEN_FDS",
        "So many file descriptors, from 3 on, are passed to the container, and the variable as"
        " well: sd_listen_fds(3).",
        _NEW,
    ),
    Entry(
        "NOTIFY_SOCKET",
        "What the container says by sd_notify(3) is passed on to this socket. `start`, which needs"
        " the variable too, and `run` --detach stay until it is ready.",
        _NEW,
    ),
    Entry("PATH", "Where criu(8) is looked for.", _CRIU),
    Entry(
        "DBUS_SYSTEM_BUS_ADDRESS, DBUS_SESSION_BUS_ADDRESS",
        "The bus on which systemd listens, for --cgroup-manager systemd: of root, and of an"
        " ordinary user.",
        frozenset(),
    ),
    Entry("NO_COLOR", "If it is not empty, nothing is coloured.", frozenset({"format"})),
)

SEE_ALSO: dict[str, tuple[str, ...]] = {
    "": ("criu(8)", "crun(1)", "runc(8)", "cgroups(7)", "namespaces(7)", "seccomp(2)"),
    "create": ("ocirun-start(8)", "ocirun-run(8)", "ocirun-spec(8)", "ocirun-explain(8)"),
    "start": ("ocirun-create(8)", "ocirun-kill(8)", "ocirun-delete(8)"),
    "state": ("ocirun-list(8)", "ocirun-ps(8)"),
    "kill": ("ocirun-delete(8)", "ocirun-pause(8)", "signal(7)"),
    "delete": ("ocirun-kill(8)", "ocirun-list(8)"),
    "run": ("ocirun-create(8)", "ocirun-launch(8)", "ocirun-spec(8)", "ocirun-explain(8)"),
    "exec": ("ocirun-ps(8)", "ocirun-run(8)", "capabilities(7)"),
    "ps": ("ocirun-state(8)", "ocirun-events(8)", "ps(1)"),
    "pause": ("ocirun-resume(8)", "ocirun-kill(8)"),
    "resume": ("ocirun-pause(8)",),
    "checkpoint": ("ocirun-restore(8)", "ocirun-doctor(8)", "criu(8)"),
    "restore": ("ocirun-checkpoint(8)", "ocirun-doctor(8)", "criu(8)"),
    "update": ("ocirun-events(8)", "cgroups(7)", "cpuset(7)"),
    "mounts": ("ocirun-update(8)", "ocirun-exec(8)", "mount_namespaces(7)"),
    "events": ("ocirun-ps(8)", "ocirun-update(8)", "cgroups(7)"),
    "list": ("ocirun-state(8)", "ocirun-ps(8)"),
    "spec": ("ocirun-validate(8)", "ocirun-run(8)"),
    "features": ("ocirun-doctor(8)",),
    "doctor": ("ocirun-features(8)",),
    "validate": ("ocirun-explain(8)", "ocirun-spec(8)"),
    "explain": ("ocirun-validate(8)", "ocirun-create(8)"),
    "launch": ("ocirun-image(8)", "ocirun-run(8)", "ocirun-delete(8)"),
    "image": ("ocirun-launch(8)",),
}
"""Command -> pages beside those of its group and of its own sub-commands."""
