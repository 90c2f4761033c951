"""Helpers of the end-to-end tests: bundles, runtimes, terminals, leak checks.

What belongs here is used by more than one test module and knows nothing of a
single feature. Expectations belong into the tests.
"""
