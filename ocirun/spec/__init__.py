"""The container configuration as a document: read it, check it, find places in it.

Belongs here: JSON in and out, the schema and the checks derived from it, the
semantic checks, source positions, the default document. Does not belong here:
what a property makes the runtime do (`ocirun.plan`).
"""
