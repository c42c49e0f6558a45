//! A problem with its place: what `fother validate` draws and what a condition lists.

use std::fmt;
use std::ops::Range;

use crate::decide::path::Path;
use crate::decide::problem::Problem;
use crate::expr::position;

/// A problem, the file and the place in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file's path.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column, in characters, from 1.
    pub column: usize,
    /// The bytes of the file that are meant.
    pub span: Range<usize>,
    /// The object, as `Rule crashloop`; none if it is not known.
    pub object: Option<String>,
    /// What is wrong.
    pub problem: Problem,
}

/// A file as text.
#[derive(Clone, Copy, Debug)]
pub(super) struct File<'a> {
    pub path: &'a str,
    pub text: &'a str,
}

impl File<'_> {
    pub(super) fn position(&self, offset: usize) -> (usize, usize) {
        position(self.text, offset)
    }

    pub(super) fn finding(&self, span: Range<usize>, problem: Problem) -> Finding {
        let (line, column) = self.position(span.start);
        Finding { file: self.path.to_owned(), line, column, span, object: None, problem }
    }
}

impl Finding {
    pub(super) fn of(self, object: String) -> Self {
        Self { object: (!object.is_empty()).then_some(object), ..self }
    }

    /// The place in the object, as a JSON pointer.
    pub fn pointer(&self) -> String {
        Path::parse(&self.problem.path).pointer()
    }
}

/// One line: `rules/crashloop.yaml:14:3: spec.trigerr: unknown field; did you mean "trigger"?`.
impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}:{}: ", self.file, self.line, self.column)?;
        if !self.problem.path.is_empty() {
            return self.problem.fmt(formatter);
        }
        write!(formatter, "{}", self.problem.message)?;
        self.problem.help.as_ref().map_or(Ok(()), |help| write!(formatter, "; {help}"))
    }
}
