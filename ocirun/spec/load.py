"""From a bundle to a valid config: read, parse, check. Hot.

Belongs here: reading config.json safely and deciding yes or no. Does not belong
here: the reasons of a no, with their lines and words (`validate`, cold).
"""

from posix import O_CLOEXEC, O_NOCTTY, O_NONBLOCK, O_RDONLY, close, fstat, open, read

from ocirun.errors import BundleError
from ocirun.spec.fastcheck import check_config
from ocirun.spec.fastjson import MAX_SIZE, dumps, loads
from ocirun.spec.strict import check

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CONFIG = "config.json"

_S_IFMT, _S_IFREG = 0o170000, 0o100000


def load_config(bundle: str, config: str = "") -> "dict[str, Any]":
    """The config.json of the bundle in the directory `bundle`, parsed and valid.

    `config` is another file in its place.

    Raises BundleError when it can't be read, InvalidJSON when it is not JSON, and
    InvalidConfig, with every error found, when it breaks the schema or the strict
    rules (docs/validation.md). OCI runtime-spec 1.3, bundle.md and config.md.
    """
    data = read_config(bundle, config)
    value = loads(data, config or f"{bundle}/{CONFIG}")
    return accept(value, data, bundle, config)


def check_spec(value: "dict[str, Any]") -> "dict[str, Any]":
    """A valid copy of the config `value`, for configs that come from no file.

    The copy went through JSON: what the caller does to `value` afterwards does not
    change it. Raises InvalidConfig as `load_config` does, TypeError or ValueError
    when `value` holds what JSON can't.
    """
    data = dumps(value).encode()
    return accept(loads(data), data, "")


def load_kept(folder: int) -> "dict[str, Any]":
    """The config of a container as of its creation, from its state folder (a descriptor).

    Raises BundleError, InvalidJSON.
    """
    path = f"/proc/self/fd/{folder}/{CONFIG}"
    return loads(read_file(path), path)  # type: ignore[return-value]


def read_config(bundle: str, config: str = "") -> bytes:
    """The bytes of config.json in the directory `bundle`, or of `config`; raises BundleError.

    A FIFO or a device in its place is refused without waiting for it.
    """
    return read_file(config) if config else read_file(f"{bundle}/{CONFIG}", bundle)


def read_file(path: str, bundle: str = "") -> bytes:
    """The bytes of a file that should hold JSON, as `read_config` reads it; raises BundleError."""
    fd = -1
    try:
        # O_NONBLOCK: opening a FIFO returns at once; it means nothing to a file.
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)
        status = fstat(fd)
        if status.st_mode & _S_IFMT != _S_IFREG:
            raise BundleError(f"{path} is not a regular file", path=path)
        return _read(fd, status.st_size)
    except ValueError:
        raise BundleError("the bundle's path holds a NUL character") from None
    except OSError as error:
        raise BundleError(
            f"cannot read {path}",
            errno=error.errno or 0,
            path=path,
            hint=_hint(bundle) if bundle else "",
        ) from None
    finally:
        if fd >= 0:
            close(fd)


def read_input(path: str) -> bytes:
    """The bytes of what the caller gives as "-" (standard input), a file, or a pipe.

    Raises BundleError.
    """
    try:
        fd = 0 if path == "-" else open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY)
        try:
            return _read(fd, 0)
        finally:
            if fd:
                close(fd)
    except OSError as error:
        name = "standard input" if path == "-" else path
        raise BundleError(f"cannot read {name}", errno=error.errno or 0, path=path) from None


def _read(fd: int, size: int) -> bytes:
    data = b""
    while len(data) <= MAX_SIZE:  # `loads` refuses what is longer
        more = read(fd, max(size + 1 - len(data), 4096))
        if not more:
            break
        data += more
    return data


def _hint(bundle: str) -> str:
    try:
        close(open(bundle, O_RDONLY | O_CLOEXEC | O_NONBLOCK))
    except OSError:
        return "the bundle is the directory that holds config.json and the root file system"
    return "`ocirun spec` writes a config.json to start from"


def accept(value: object, data: bytes, bundle: str, path: str = "") -> "dict[str, Any]":
    """The value, which `data` was parsed into, if it is a valid config. Raises InvalidConfig.

    `bundle` and `path` are for the error: the config is the file `path`, "" for config.json in
    the bundle.
    """
    config: dict[str, Any] = value  # type: ignore[assignment]
    fits = check_config(value)
    if not fits or check(config):
        from ocirun.spec.validate import refusal  # cold: costs jsonschema

        error = refusal(value, data.decode(), bundle, fits, path)
        if error is not None:
            raise error
    return config
