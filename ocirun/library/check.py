"""validate: what is wrong with a config.json, or suspicious, as a list. Cold."""

import os
from collections.abc import Mapping
from typing import Any

from ocirun.library.spec import Spec
from ocirun.spec.validate import Finding, validate_bundle, validate_config


def validate(bundle: str | os.PathLike[str] | Spec | Mapping[str, Any]) -> list[Finding]:
    """Everything that is wrong with a config, or suspicious; [] if nothing is.

    `create` refuses what has a finding of severity "error"; docs/validation.md lists
    the rules. Raises TypeError for what JSON can't hold.

    Args:
        bundle: directory with config.json, whose files are looked for too, and whose
            findings have lines and columns; or a Spec, or a config as a dict. A
            bundle that cannot be read is a finding.
    """
    if isinstance(bundle, (str, os.PathLike)):
        return validate_bundle(os.fspath(bundle)).findings
    if isinstance(bundle, Spec):
        return validate_config(bundle.to_dict())
    from ocirun.spec.fastjson import dumps, loads

    # As create would see it: a tuple is a list in JSON, a key always a string.
    return validate_config(loads(dumps(dict(bundle)).encode()))
