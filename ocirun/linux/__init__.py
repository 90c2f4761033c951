"""Bindings: one thin module per kernel interface. No policy, no state, no defaults."""
