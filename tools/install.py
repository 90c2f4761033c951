"""Install ocirun under a prefix: its own virtual environment and the fast launcher.

Usage: python tools/install.py PREFIX             `make install`
       python tools/install.py --editable PREFIX  a launcher for this checkout, for tests
       python tools/install.py --remove PREFIX    `make uninstall`

PREFIX/lib/ocirun is the environment, PREFIX/bin/ocirun the launcher, PREFIX/share has
the manual pages and the completion of shells. The launcher
starts that environment's interpreter isolated (-I: no PYTHON* variables, no
folder of the caller's on the path) and without `site` (-S: 5 ms), and imports
nothing but the quick path. Only the standard library is used here.
"""

import argparse
import compileall
import json
import os
import py_compile
import shutil
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
SHARED = (
    "man/man8/ocirun.8",
    "man/man8/ocirun-*.8",
    "bash-completion/completions/ocirun",
    "zsh/site-functions/_ocirun",
    "fish/vendor_completions.d/ocirun.fish",
)
"""The files below PREFIX/share that are ocirun's; the wheel has them (pyproject.toml)."""
SHEBANG_MAX = 255
"""Bytes of a first line that the kernel reads (BINPRM_BUF_SIZE, execve(2))."""

LAUNCHER = """\
#!{interpreter} -ISXutf8
import gc
import sys

gc.disable()
sys.dont_write_bytecode = {installed}
sys.path[:0] = {paths}
{archive}from ocirun.cli.entry import main

main()
"""
"""Collecting garbage would cost a command more time than it has memory to free."""

USE_ARCHIVE = """\
if sys.hexversion >> 16 == {version:#x}:
    import marshal
    import posix

    try:
        fd = posix.open({path!r}, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        pass
    else:
        data = posix.read(fd, {size})
        posix.close(fd)
        exec(marshal.loads(data))
        use(data, {start}, {path!r})
"""
"""Bytecode is the same for all releases 3.N; another interpreter imports as usual."""


def write_launcher(
    target: Path, interpreter: Path, paths: list[str], installed: bool, archive: str = ""
) -> None:
    """Write the launcher: complete before it bears its name, so that a running one survives.

    Raises:
        SystemExit: the interpreter's path does not fit into a first line.
    """
    text = LAUNCHER.format(
        interpreter=interpreter, paths=paths, installed=installed, archive=archive
    )
    first = text.partition("\n")[0]
    if len(os.fsencode(first)) > SHEBANG_MAX or any(c.isspace() for c in str(interpreter)):
        raise SystemExit(
            f"install: the kernel cannot start {interpreter} from a script's first line"
            f" (blanks, or more than {SHEBANG_MAX} bytes): choose a shorter PREFIX"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.new")
    draft.write_text(text)
    draft.chmod(0o755)
    draft.rename(target)


def install(prefix: Path) -> None:
    """Make the environment, install the package into it, compile it, write the launcher."""
    home = prefix / "lib" / "ocirun"
    run([sys.executable, "-m", "venv", "--clear", str(home)])
    python = home / "bin" / "python3"
    pins = str(CHECKOUT / "constraints.txt")
    quiet = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "PIP_QUIET": "1"}
    build = {"PIP_CONSTRAINT": pins, "PIP_BUILD_CONSTRAINT": pins}
    run([str(python), "-m", "pip", "install", str(CHECKOUT)], {**os.environ, **quiet, **build})
    query = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(subprocess.check_output([str(python), "-Ic", query], text=True).strip())
    stamp_commit(site / "ocirun" / "version.py")
    # Unchecked: the interpreter then never looks at the sources, which nobody edits here.
    compileall.compile_dir(
        site / "ocirun",
        quiet=1,
        force=True,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )
    lines = write_archive(python, site, home / "ocirun.archive")
    write_launcher(prefix / "bin" / "ocirun", python, [str(site)], True, lines)
    install_shared(home / "share", prefix / "share")


def write_archive(python: Path, site: Path, target: Path) -> str:
    """Pack the hot modules of an installed package; return the launcher's lines to use them."""
    # By the interpreter that will read it, and without the columns of every instruction.
    script = [str(python), "-IXno_debug_ranges", str(CHECKOUT / "tools" / "archive.py")]
    facts = subprocess.check_output([*script, str(site), str(target)], text=True)
    return USE_ARCHIVE.format(path=str(target), **json.loads(facts))


def install_editable(prefix: Path) -> None:
    """Write a launcher that runs this checkout with the interpreter that runs this script."""
    import sysconfig

    site = sysconfig.get_path("purelib")
    interpreter = Path(sys.prefix) / "bin" / "python3"
    write_launcher(prefix / "bin" / "ocirun", interpreter, [str(CHECKOUT), site], False)


def remove(prefix: Path) -> None:
    """Remove what `install` made, and nothing else."""
    (prefix / "bin" / "ocirun").unlink(missing_ok=True)
    shutil.rmtree(prefix / "lib" / "ocirun", ignore_errors=True)
    remove_shared(prefix / "share")


def install_shared(source: Path, target: Path) -> None:
    """Copy what is ocirun's to PREFIX/share; folders that are there stay as they are."""
    remove_shared(target)
    for pattern in SHARED:
        for file in source.glob(pattern):
            copy = target / file.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)


def remove_shared(share: Path) -> None:
    """Remove what this version, or an earlier one, has below PREFIX/share."""
    for pattern in SHARED:
        for file in share.glob(pattern):
            file.unlink()


def stamp_commit(version: Path) -> None:
    """Write the checkout's commit into the installed version.py; leave it if there is none."""
    command = ["git", "-C", str(CHECKOUT), "rev-parse", "HEAD"]
    try:
        commit = subprocess.check_output(command, text=True, stderr=subprocess.DEVNULL).strip()
    except (OSError, subprocess.CalledProcessError):
        return
    text = version.read_text()
    version.write_text(text.replace('COMMIT = "unknown"', f'COMMIT = "{commit}"'))


def run(command: list[str], env: dict[str, str] | None = None) -> None:
    """Run a command that speaks for itself when it fails."""
    done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise SystemExit(f"install: failed: {' '.join(command)}")


def main() -> None:
    """Read the command line and do it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--editable", action="store_true", help="a launcher for this checkout")
    kind.add_argument("--remove", action="store_true", help="remove an installation")
    parser.add_argument("prefix", type=Path)
    options = parser.parse_args()
    prefix = options.prefix.expanduser().absolute()
    action = install_editable if options.editable else remove if options.remove else install
    action(prefix)
    if not options.remove:
        print(f"ocirun: {prefix / 'bin' / 'ocirun'}")


if __name__ == "__main__":
    main()
