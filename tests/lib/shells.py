"""Interactive shells in which ocirun's completion is loaded, as a user has them."""

import os
import re
import subprocess
from pathlib import Path

from .terminal import Terminal

TAB, SHOW, CLEAR = b"\t", b"\x14", b"\x15"  # ^T shows the line between << and >>
_BASH = r"""
bind 'set show-all-if-ambiguous on' 'set enable-bracketed-paste off' 'set page-completions off'
bind -x '"\C-t": printf "<<%s>>\n" "$READLINE_LINE"'
source {share}/bash-completion/completions/ocirun
"""
_ZSH = r"""
fpath=({share}/zsh/site-functions $fpath); autoload -Uz compinit; compinit -D -u
zstyle ':completion:*' verbose no; LISTMAX=0; setopt no_beep no_list_ambiguous
show() {{ print -r -- "<<$BUFFER>>" }}; zle -N show; bindkey '^T' show
"""


class PtyShell:
    """bash or zsh on a terminal."""

    def __init__(self, name: str, share: Path, path: str, cwd: Path) -> None:
        setup = {"bash": _BASH, "zsh": _ZSH}[name].format(share=share)
        (share / "setup").write_text(setup)
        env = {"PATH": path, "HOME": str(cwd), "TERM": "xterm", "LC_ALL": "C.UTF-8", "PS1": "", "LINES": "50",
               "COLUMNS": "200"}  # fmt: skip
        argv = {"bash": ["bash", "--norc", "--noprofile", "-i"], "zsh": ["zsh", "-f", "-i"]}[name]
        self.terminal = Terminal()
        self.terminal.resize(50, 200)
        self.terminal.spawn(
            ["env", "-i", "-C", str(cwd), *(f"{k}={v}" for k, v in env.items()), *argv]
        )
        self.terminal.write(b"PS1= PROMPT_EOL_MARK=; . ../share/setup; echo set''up\n")
        try:
            self.terminal.read_until(b"setup\r\n")
        except BaseException:
            self.__exit__()
            raise

    def tab(self, line: str) -> tuple[set[str], str]:
        """The words that one TAB lists behind `line`, and the line then."""
        self.terminal.seen = b""
        self.terminal.write(CLEAR + line.encode() + TAB + SHOW)
        seen = self.terminal.read_until(b">>", 20).decode()
        seen = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b[=>]", "", seen).replace("\r", " ")
        before, _, after = seen.rpartition("<<")
        after = after.partition(">>")[0]
        # zsh draws the first letter of the line, and then the line.
        listed = [word for word in before.partition("\n")[2].split() if len(word) > 1]
        return set(listed) - {*line.split(), *after.split()}, after

    def __enter__(self) -> "PtyShell":
        return self

    def __exit__(self, *error: object) -> None:
        self.terminal.__exit__(None, None, None)


def fish(line: str, share: Path, path: str, cwd: Path) -> set[str]:
    """What fish offers for a line; its completion is found in a folder of vendors."""
    env = {"PATH": path, "HOME": str(cwd), "LC_ALL": "C.UTF-8", "TERM": "xterm",
           "XDG_DATA_DIRS": f"{share}:/usr/share"}  # fmt: skip
    done = subprocess.run(
        ["fish", "-c", 'complete -C "$argv"', line],
        env=env,
        cwd=cwd,
        capture_output=True,
        check=True,
        timeout=30,
    )
    return {one.partition("\t")[0] for one in os.fsdecode(done.stdout).splitlines()}
