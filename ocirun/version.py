"""The version numbers that ocirun tells others, and nothing else. On the hot path.

`VERSION` is read by the build (pyproject.toml), so it is written here alone.
"""

VERSION = "0.1.0"
SPEC_VERSION = "1.3.0"


def commit() -> str:
    """Return the commit that this copy was installed from, or "unknown"."""
    try:
        from ocirun._build import COMMIT  # written by tools/install.py
    except ImportError:
        return "unknown"
    return str(COMMIT)
