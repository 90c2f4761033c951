"""The operations of the runtime, one module each, seen from the parent's side."""
