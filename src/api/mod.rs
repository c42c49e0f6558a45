//! The nouns: what users write and read, one file per kind.
