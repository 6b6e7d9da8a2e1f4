//! One thing that is wrong with a topology file, with the place where it stands.
//!
//! Owns the wording's frame only; the readers own the words.

use std::fmt;

/// A fault in a topology file: where it is and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line in the file, from 1; 0 when the fault belongs to no line.
    pub line: u64,
    /// Dotted path of the key, such as `topology.nodes.n1.ports`.
    pub path: String,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}: ", self.line)?;
        }
        if self.path.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.path, self.message)
        }
    }
}
