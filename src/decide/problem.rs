//! What is wrong with an object, as a value: found by checks, shown by conditions and by `fother validate`.

use std::fmt;
use std::ops::Range;

/// One mistake of one object.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// Where in the object, as a path that people write. Example: `spec.ladder[0].verify.when`.
    pub path: String,
    /// Bytes of the string at `path` that are meant, for expressions and templates.
    pub span: Option<Range<usize>>,
    /// What is wrong, with the value.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

/// How bad a problem is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Severity {
    /// The object is not used until it is mended.
    Error,
    /// The object is used.
    Warning,
}

impl Problem {
    /// An error at `path`.
    pub fn error(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, path: path.into(), span: None, message: message.into(), help: None }
    }

    /// A warning at `path`.
    pub fn warning(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(path, message) }
    }

    /// The same, with the bytes of the string that are meant.
    #[must_use]
    pub fn at(self, span: Range<usize>) -> Self {
        Self { span: Some(span), ..self }
    }

    /// The same, with what to do about it.
    #[must_use]
    pub fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)?;
        self.help.as_ref().map_or(Ok(()), |help| write!(f, "; {help}"))
    }
}
