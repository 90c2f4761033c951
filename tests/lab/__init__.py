"""Real kernels to run parts of the test suite on: see docs/labs.md."""
