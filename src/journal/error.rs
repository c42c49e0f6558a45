//! Why a journal cannot be used.

use rusqlite::ErrorCode;

/// Why a journal cannot be used. Each text says the cause, so that none has a source that would say it again; a raw name
/// keeps `thiserror` from taking a field for one.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// It was written by a later fother, which may want it back.
    #[error(
        "{path} has schema {found}, this fother knows {known}: use the fother that wrote it, or another file"
    )]
    Newer {
        /// The file.
        path: String,
        /// Its schema.
        found: usize,
        /// Ours.
        known: usize,
    },
    /// There is nothing in it yet, or it is of another program.
    #[error("{path} is not a journal")]
    Foreign {
        /// The file.
        path: String,
    },
    /// `SQLite` cannot read or write it.
    #[error("{path}: {source}")]
    Sqlite {
        /// The file.
        path: String,
        /// What `SQLite` says.
        r#source: rusqlite::Error,
    },
    /// A damaged file cannot be put aside.
    #[error("{path} is damaged and cannot be put aside: {source}")]
    Stuck {
        /// The file.
        path: String,
        /// What the system says.
        r#source: std::io::Error,
    },
}

impl JournalError {
    fn code(&self) -> Option<ErrorCode> {
        let Self::Sqlite { source, .. } = self else { return None };
        source.sqlite_error_code()
    }

    /// Whether the file is not, or no longer, a database.
    pub(super) fn is_damage(&self) -> bool {
        matches!(self.code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
    }

    /// Whether there is no room.
    pub(super) fn is_full(&self) -> bool {
        self.code() == Some(ErrorCode::DiskFull)
    }

    /// Whether the file is as it should be, so that it need not be opened anew to be written again.
    pub(super) fn is_passing(&self) -> bool {
        self.is_full() || matches!(self.code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
    }

    /// Whether a process was killed while it wrote, and what it left half done has to be undone before anybody can read.
    pub(super) fn is_unfinished(&self) -> bool {
        matches!(self.code(), Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_said_once() {
        let failure = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_NOTADB);
        let source = rusqlite::Error::SqliteFailure(failure, Some("file is not a database".to_owned()));
        let error = JournalError::Sqlite { path: "journal.db".to_owned(), source };
        assert_eq!(format!("{:#}", anyhow::Error::from(error)), "journal.db: file is not a database");
        let source = std::io::Error::other("no room");
        let error = JournalError::Stuck { path: "journal.db".to_owned(), source };
        let said = "journal.db is damaged and cannot be put aside: no room";
        assert_eq!(format!("{:#}", anyhow::Error::from(error)), said);
    }
}
