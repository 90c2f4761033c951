"""What `--version` prints, and nothing else."""

from ocirun import __version__
from ocirun.spec.default import OCI_VERSION

COMMIT = "unknown"
"""Commit of the source; tools/install.py writes it into the copy that it installs."""


def version_text() -> str:
    """Return what `--version` prints: Docker looks for "version" and "commit:" in it."""
    return f"ocirun version {__version__}\ncommit: {COMMIT}\nspec: {OCI_VERSION}\n"
