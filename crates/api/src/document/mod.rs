//! Documents as people write them: a tree of values that knows its places, and everything that is wrong in it at once.
//!
//! Owns: reading a typed part out of a tree with *all* its faults, each with path, line and column. Never does: parse a
//! format; the readers of manifests (YAML) and of `bgpd.toml` make the trees.

mod error;
mod fields;
mod tree;

use serde::de::DeserializeOwned;

pub use self::error::{DocumentError, DocumentErrors};
pub use self::fields::fields_of;
pub use self::tree::{Data, Entry, Node, Place, shown, unknown_field};
use self::tree::{Fault, Step, path_text};

/// Most faults of one part, each of which costs another look at it.
const MAX_FAULTS: usize = 20;

/// Something wrong with the shape of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where it stands; for a field that is missing, where its mapping does.
    pub place: Place,
    /// Path of the field, below the path that was given.
    pub path: String,
    /// What is wrong and what would be right.
    pub message: String,
}

/// One typed part of a document, `path` being where it is. What cannot be read is found and taken out until the rest can
/// be; what then remains is worth validating only when nothing but unknown fields was taken out, and `None` else.
pub fn read<T: DeserializeOwned>(
    part: &Node,
    path: &str,
    found: &mut impl FnMut(Finding),
) -> Option<T> {
    // An empty mapping may be written as nothing; required fields then are named one level deeper.
    let mut part = match part.data {
        Data::Null => Node {
            place: part.place,
            data: Data::Map(Vec::new()),
        },
        _ => part.clone(),
    };
    let mut removed: Vec<Vec<Step>> = Vec::new();
    let mut whole = true;
    loop {
        let error = match T::deserialize(&part) {
            Ok(value) => return whole.then_some(value),
            Err(error) => error,
        };
        let steps = error.path();
        let missing = error.fault == Fault::Missing;
        if missing && removed.contains(&steps) {
            return None;
        }
        whole &= error.fault == Fault::UnknownField;
        found(Finding {
            place: error.place.unwrap_or(part.place),
            path: match path_text(&steps) {
                below if below.is_empty() => path.to_owned(),
                below if below.starts_with('[') => format!("{path}{below}"),
                below => format!("{path}.{below}"),
            },
            message: error.message,
        });
        if missing || removed.len() >= MAX_FAULTS || !part.remove(&steps) {
            return None;
        }
        let cut = steps.iter().rposition(|s| matches!(s, Step::Key(_)));
        removed.push(steps[..=cut.unwrap_or(0)].to_vec());
    }
}
