//! Packs: from files to validated objects, or to everything that is wrong with them.

pub mod place;
pub mod yaml;
