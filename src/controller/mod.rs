//! Observe, decide, act: one file per root kind.
