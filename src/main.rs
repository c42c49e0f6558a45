//! The `fother` binary.

fn main() {}
