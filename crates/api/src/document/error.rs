//! What is wrong with a file, and where.

use std::fmt;

/// One problem of a file: where it is, what is wrong, what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct DocumentError {
    /// Name of the file.
    pub origin: String,
    /// Which document of the file, from 1; empty ones do not count. 0: the file as a whole.
    pub document: usize,
    /// Line in the file, from 1.
    pub line: Option<usize>,
    /// Column in that line, from 1.
    pub column: Option<usize>,
    /// `IPPool/pods-v4`, as far as the document says.
    pub object: Option<String>,
    /// Path of the field, `spec.blockSize`; empty for the document as a whole.
    pub path: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for DocumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
            if let Some(column) = self.column {
                write!(f, ":{column}")?;
            }
        }
        if self.document > 1 {
            write!(f, ": document {}", self.document)?;
        }
        if let Some(object) = &self.object {
            write!(f, ": {object}")?;
        }
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// Every problem of one or more files; one line each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DocumentErrors(Vec<DocumentError>);

impl DocumentErrors {
    /// No problem yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many were found.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The problems in the order of the text.
    pub fn iter(&self) -> impl Iterator<Item = &DocumentError> {
        self.0.iter()
    }

    /// Adds one.
    pub fn push(&mut self, error: DocumentError) {
        self.0.push(error);
    }

    /// Puts them into the order of the text; what concerns the file as a whole comes first.
    pub fn sort(&mut self) {
        self.0.sort_by_key(|error| (error.line, error.column));
    }

    /// Keeps the first ones.
    pub fn truncate(&mut self, count: usize) {
        self.0.truncate(count);
    }

    /// Adds those of another manifest.
    pub fn append(&mut self, mut other: DocumentErrors) {
        self.0.append(&mut other.0);
    }
}

impl fmt::Display for DocumentErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for DocumentErrors {}
