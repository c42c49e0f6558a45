//! Whether a commit descends from another: looked up in what is there, and in more of the history, up to a bound.

use std::collections::BTreeSet;
use std::fs;

use git2::{Oid, Repository};
use serde::{Deserialize, Serialize};

use super::error::{Error, Failure};
use super::remote::{Depth, Remote};

/// How much history is asked for, one after the other. The first is what a day brings; the last costs some megabytes at most where
/// files are small, and the transfer's limit bounds it elsewhere.
pub(super) const DEPTHS: [i32; 3] = [10, 100, 1000];

/// How a commit stands to the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lineage {
    /// Nobody asked.
    Unasked,
    /// It is the same commit or descends from it.
    Descends,
    /// Its whole history is known, and the other is not in it.
    Rewritten,
    /// The other is not among its last commits, as far as it was looked.
    Unproven,
}

/// Compares a commit, which is there, with an earlier one, which may not be; `more` gets more of the reference's history.
pub(super) fn lineage(
    repository: &Repository,
    (commit, before): (Oid, Oid),
    (remote, refspec): (&Remote<'_>, &str),
) -> Result<Lineage, Failure> {
    for depth in DEPTHS {
        match walk(repository, commit, before)? {
            Lineage::Unproven => {}
            known => return Ok(known),
        }
        match remote.download(repository, &[refspec], Depth::Last(depth)) {
            Err(Failure::Final(Error::TooLarge { .. })) => return Ok(Lineage::Unproven),
            other => other?,
        }
    }
    walk(repository, commit, before)
}

fn walk(repository: &Repository, commit: Oid, before: Oid) -> Result<Lineage, Failure> {
    let boundary = boundary(repository);
    let mut walk = repository.revwalk()?;
    walk.push(commit)?;
    let mut complete = true;
    for ancestor in walk {
        let ancestor = ancestor?;
        if ancestor == before {
            return Ok(Lineage::Descends);
        }
        complete &= !boundary.contains(&ancestor);
    }
    Ok(if complete { Lineage::Rewritten } else { Lineage::Unproven })
}

/// The commits whose parents were left out by shallow fetches.
fn boundary(repository: &Repository) -> BTreeSet<Oid> {
    let lines = fs::read_to_string(repository.path().join("shallow")).unwrap_or_default();
    lines.lines().filter_map(|line| Oid::from_str(line).ok()).collect()
}
