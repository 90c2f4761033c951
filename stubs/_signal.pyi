"""The C half of `signal`, which typeshed does not describe: the same names."""

from signal import *
