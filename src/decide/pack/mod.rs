//! Packs: from files to validated objects, or to everything that is wrong with them.

pub mod place;
mod schema;
pub mod yaml;
