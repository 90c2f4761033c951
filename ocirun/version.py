"""The version numbers that ocirun tells others, and nothing else. On the hot path.

`VERSION` is read by the build (pyproject.toml), so it is written here alone.
"""

VERSION = "0.1.0"
SPEC_VERSION = "1.3.0"
COMMIT = "unknown"
"""Commit of the source; tools/install.py writes it into the copy that it installs."""


def version_text() -> str:
    """Return what `--version` prints: Docker looks for "version" and "commit:" in it."""
    return f"ocirun version {VERSION}\ncommit: {COMMIT}\nspec: {SPEC_VERSION}\n"
