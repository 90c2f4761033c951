"""Whoever comes from runc 1.5 or crun 1.27 finds every command and option of theirs.

The tables are those of their man pages and sources: a command's flags, options with a value that
fits, and words after them. Where a runc or crun is installed, its own --help must hold nothing
that the tables do not.
"""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer

from ocirun.cli.main import app

GROUP: Any = typer.main.get_command(app)
CLI_MD = (Path(__file__).resolve().parents[2] / "docs" / "cli.md").read_text()
EVERYWHERE = "--help -h"

# Options before the command have the name "".
CRIU = "--image-path=D --work-path=D --tcp-established --ext-unix-sk --shell-job --file-locks"
MODES = "--manage-cgroups-mode=soft --manage-cgroups-mode=full --manage-cgroups-mode=strict"
MODES += " --manage-cgroups-mode=ignore"
UPDATE = """--resources=F -r=F --blkio-weight=10 --cpu-period=1 --cpu-quota=1 --cpu-burst=1
    --cpu-share=2 --cpu-rt-period=1 --cpu-rt-runtime=1 --cpu-idle=1 --cpuset-cpus=0 --cpuset-mems=0
    --kernel-memory=1 --kernel-memory-tcp=1 --memory=1 --memory-reservation=1 --memory-swap=-1
    --pids-limit=1 --l3-cache-schema=L --mem-bw-schema=L"""
RUNC = {
    "": """--debug --log=F --log-format=json --log-format=text --root=D --criu=F --systemd-cgroup
        --rootless=true --rootless=false --rootless=auto --version -v""",
    "checkpoint": f"""{CRIU} {MODES} --parent-path=D --leave-running --tcp-skip-in-flight
        --link-remap --lazy-pages --status-fd=3 --page-server=A:1 --pre-dump --empty-ns=network
        --auto-dedup""",
    "create": """--bundle=D -b=D --console-socket=S --pidfd-socket=S --pid-file=F --no-pivot
        --no-new-keyring --preserve-fds=1""",
    "delete": "--force -f",
    "events": "--interval=5s --stats",
    "exec": """--console-socket=S --pidfd-socket=S --cwd=D --env=A=1 -e=A=1 --tty -t --user=1:2
        -u=1 --additional-gids=1 -g=1 --process=F -p=F --detach -d --pid-file=F --process-label=L
        --apparmor=P --no-new-privs --cap=C -c=C --preserve-fds=1 --cgroup=a,b:c --ignore-paused""",
    "features": "",
    "help": "",
    "kill": "--all -a",
    "list": "--format=json -f=table --quiet -q",
    "pause": "",
    "ps": "--format=json -f=table",
    "restore": f"""{CRIU} {MODES} --console-socket=S --bundle=D -b=D --detach -d --pid-file=F
        --no-subreaper --no-pivot --empty-ns=network --auto-dedup --lazy-pages --lsm-profile=a:b
        --lsm-mount-context=C""",
    "resume": "",
    "run": """--bundle=D -b=D --console-socket=S --pidfd-socket=S --detach -d --keep --pid-file=F
        --no-subreaper --no-pivot --no-new-keyring --preserve-fds=1""",
    "spec": "--bundle=D -b=D --rootless",
    "start": "",
    "state": "",
    "update": UPDATE,
}
CREATE = """--bundle=D -b=D --config=F -f=F --console-socket=S --no-new-keyring --no-pivot
    --no-subreaper --pid-file=F --preserve-fds=1"""
CRUN = {
    "": """--debug --cgroup-manager=cgroupfs --cgroup-manager=systemd --cgroup-manager=disabled
        --systemd-cgroup --log=F --log=file:F --log=journald:T --log=syslog:T --log-format=text
        --log-format=json --log-level=error --log-level=warning --log-level=debug --root=D
        --rootless=true --version -v -V -?""",
    "checkpoint": f"{CRIU} {MODES} --leave-running --pre-dump --parent-path=D --network-lock=iptables",
    "create": CREATE,
    "delete": "--force -f --regex -r",
    "exec": """--apparmor=P --cgroup=P --console-socket=S --cwd=D --cap=C -c=C --detach -d --env=A=1
        -e=A=1 --no-new-privs --pid-file=F --preserve-fds=1 --process-label=L --process=F -p=F
        --tty -t --user=1:2 -u=1""",
    "features": "",
    "list": "--format=json -f=table --quiet -q",
    "kill": "--all -a --regex -r",
    "mounts add": "",
    "mounts remove": "",
    "pause": "",
    "ps": "--format=json -f=table",
    "restore": f"""{CRIU} {MODES} --bundle=D -b=D --console-socket=S --detach -d --pid-file=F
        --tcp-close --network-lock=iptables --lsm-profile=a:b --lsm-mount-context=C""",
    "resume": "",
    "run": f"{CREATE} --detach -d --keep",
    "spec": "--bundle=D -b=D --file=F -f=F --rootless",
    "start": "",
    "state": "",
    "update": UPDATE,
}
TABLES = {"runc": RUNC, "crun": CRUN}

# On purpose; docs/cli.md says so.
EXCEPTIONS = {
    ("crun", "", "--usage"),
    ("crun", "checkpoint", "--network-lock"),
    ("crun", "restore", "--network-lock"),
    ("crun", "restore", "--tcp-close"),
}
WORDS = {
    "": ["state", "ID"],
    "exec": ["ID", "true"],
    "mounts add": ["ID", "F"],
    "mounts remove": ["ID", "F"],
    "list": [],
    "spec": [],
    "features": [],
    "help": [],
}
FLAGS = [
    (kind, command, name)
    for kind, table in TABLES.items()
    for command, options in table.items()
    for name in f"{EVERYWHERE} {options}".split()
    if "=" not in name and (kind, command, name) not in EXCEPTIONS
]  # fmt: skip
VALUED = [
    (kind, command, *token.split("=", 1))
    for kind, table in TABLES.items()
    for command, options in table.items()
    for token in options.split()
    if "=" in token and (kind, command, token.split("=")[0]) not in EXCEPTIONS
]


def read(command: str, options: list[str]) -> Any:
    """The values that a command line has, or the exit status if it shows something and ends."""
    found, parent = GROUP, None
    for name in command.split():
        parent = found.make_context(found.name, [name], parent=parent)
        found = found.commands[name]
    words = WORDS.get(command, ["ID"])
    try:
        return found.make_context(found.name, [*options, *words], parent=parent).params
    except typer.Exit as end:
        return end.exit_code


def one_dash(name: str) -> str:
    """The option as Go's flag package takes it as well."""
    return "-" + name.lstrip("-")


@pytest.mark.contract(
    "A user who moves from either finds every option here.",
    "Long options with one dash are sent by some callers (`restore ... -no-subreaper`)",
)
@pytest.mark.parametrize(("kind", "command", "name"), FLAGS)
def test_flags(kind: str, command: str, name: str) -> None:
    given = read(command, [name])
    assert given == read(command, [one_dash(name)]) == read(command, [f"{name}=true"])
    without = read(command, [])
    # Help and version end it; anything else changes a value, unless it is ignored.
    ignored = {("crun", "create", "--no-subreaper")}
    assert given == 0 or given != without or (kind, command, name) in ignored
    if given != 0:
        assert read(command, [f"{name}=false"]) == read(command, [name, f"{name}=0"]) == without


@pytest.mark.contract("A user who moves from either finds every option here.")
@pytest.mark.parametrize(("kind", "command", "name", "value"), VALUED)
def test_options(kind: str, command: str, name: str, value: str) -> None:
    given = read(command, [name, value])
    assert value in str(given)
    for form in ([f"{name}={value}"], [one_dash(name), value], [f"{one_dash(name)}={value}"]):
        assert read(command, form) == given


@pytest.mark.parametrize(("kind", "command", "name"), sorted(EXCEPTIONS))
def test_exceptions_are_documented(kind: str, command: str, name: str) -> None:
    assert f"`{name}`" in CLI_MD
    with pytest.raises(typer.TyperException, match="No such option"):
        read(command, [name])


def commands(group: Any, path: str = "") -> list[tuple[str, Any]]:
    """(words, command) of the application and all commands in it."""
    inner = getattr(group, "commands", {}).items()
    return [(path, group), *(one for n, c in inner for one in commands(c, f"{path} {n}".strip()))]


COMMANDS = dict(commands(GROUP))
OWN = [
    (command, token, not option.is_flag)
    for command, its in COMMANDS.items()
    for option in its.params
    if option.param_type_name == "option"
    for token in option.opts
]


@pytest.mark.contract("accept them as Go's flag package does")
@pytest.mark.parametrize(("command", "name", "valued"), OWN, ids=str)
def test_one_dash_or_two(command: str, name: str, valued: bool) -> None:
    found = COMMANDS[command]
    parser = found.make_parser(found.context_class(found))
    for dashes in ("-", "--"):
        option = parser._long_opt[dashes + name.lstrip("-")]
        assert option is parser._long_opt[name]
        assert option.takes_value is valued


@pytest.mark.parametrize("kind", TABLES)
def test_tables_have_what_the_installed_one_has(kind: str) -> None:
    if not shutil.which(kind):
        pytest.skip(f"no {kind} here")
    missing = []
    for command, options in TABLES[kind].items():
        argv = [kind, *([command] if command else []), "--help"]
        text = subprocess.run(argv, capture_output=True, text=True, timeout=20).stdout
        # A line of an option: -f, --force VALUE    its description
        for line in re.findall(r"^ +(-.*?)(?: {2,}|$)", text, re.MULTILINE):
            for name in re.findall(r"(?<![\w-])--?[A-Za-z?][\w-]*", line):
                known = name in ("--help", "-h", "-?", "--usage")
                if not known and not re.search(rf"(?<!\S){name}(?![\w-])", options):
                    missing.append(f"{command} {name}")
    assert missing == []
