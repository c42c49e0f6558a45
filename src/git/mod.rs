//! Shell around git2: fetches a revision and reads files from its tree, without checkout.
