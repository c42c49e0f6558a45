//! The verbs, pure: no I/O, no clock, no randomness.
