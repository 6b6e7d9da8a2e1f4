//! Files, directories and standard input to resources. All problems of all files come together.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use roadbed_api::document::{DocumentError, DocumentErrors};
use roadbed_api::manifest::{self, MAX_BYTES};
use roadbed_api::{Kind, Object};

use crate::error::CtlError;

/// Most files of one command.
const MAX_FILES: usize = 10_000;

/// A resource and the file that it is from.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Name of the file.
    pub origin: String,
    /// What it says.
    pub object: Object,
}

/// Every resource of the files, in the order of [`Kind::ALL`], then of names.
///
/// # Errors
/// A file cannot be read, or every problem of every file.
pub fn load(files: &[PathBuf], stdin: &mut dyn Read) -> Result<Vec<Found>, CtlError> {
    let mut texts = Vec::new();
    for path in files {
        if path.as_os_str() == "-" {
            texts.push(("standard input".to_owned(), read(path, stdin)?));
            continue;
        }
        for path in expand(path)? {
            let mut file = File::open(&path).map_err(|e| cannot_read(&path, &e))?;
            texts.push((path.display().to_string(), read(&path, &mut file)?));
        }
        if texts.len() > MAX_FILES {
            return Err(CtlError::Usage(format!(
                "more than {MAX_FILES} files: name fewer"
            )));
        }
    }
    let found = parse_all(&texts).map_err(CtlError::Manifests)?;
    if found.is_empty() {
        let names: Vec<String> = files.iter().map(|p| p.display().to_string()).collect();
        return Err(CtlError::Nothing(format!(
            "no resource in {}: a manifest has apiVersion, kind, metadata and spec",
            names.join(", ")
        )));
    }
    Ok(found)
}

/// Every resource of these texts, each with its file's name.
///
/// # Errors
/// Every problem of every text, and resources that two files give.
pub fn parse_all(texts: &[(String, String)]) -> Result<Vec<Found>, DocumentErrors> {
    let mut found = Vec::new();
    let mut errors = DocumentErrors::new();
    let mut seen: BTreeMap<(Kind, String), &str> = BTreeMap::new();
    for (origin, text) in texts {
        let objects = match manifest::parse(text, origin) {
            Ok(objects) => objects,
            Err(problems) => {
                errors.append(problems);
                continue;
            }
        };
        for object in objects {
            let key = (object.kind, object.metadata.name.clone());
            if let Some(first) = seen.insert(key, origin) {
                errors.push(DocumentError {
                    origin: origin.clone(),
                    document: 0,
                    line: None,
                    column: None,
                    object: Some(format!("{}/{}", object.kind, object.metadata.name)),
                    path: "metadata.name".to_owned(),
                    message: format!("is given twice, also in {first}: keep one"),
                });
            }
            found.push(Found {
                origin: origin.clone(),
                object,
            });
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let rank = |kind: Kind| Kind::ALL.iter().position(|k| *k == kind);
    found.sort_by(|a, b| {
        let key = |f: &Found| (rank(f.object.kind), f.object.metadata.name.clone());
        key(a).cmp(&key(b))
    });
    Ok(found)
}

/// The files that a path stands for, in the order of their names; directories are not descended into.
fn expand(path: &Path) -> Result<Vec<PathBuf>, CtlError> {
    let about = std::fs::metadata(path).map_err(|e| cannot_read(path, &e))?;
    if !about.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(|e| cannot_read(path, &e))? {
        let file = entry.map_err(|e| cannot_read(path, &e))?.path();
        let suffix = file.extension().and_then(|e| e.to_str());
        if matches!(suffix, Some("yaml" | "yml" | "json")) && file.is_file() {
            files.push(file);
        }
        if files.len() > MAX_FILES {
            break;
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(CtlError::File {
            path: path.to_owned(),
            reason: "this directory has no .yaml, .yml or .json file".to_owned(),
        });
    }
    Ok(files)
}

/// At most one byte more than a manifest may have, so that the parser can refuse it.
fn read(path: &Path, from: &mut dyn Read) -> Result<String, CtlError> {
    let mut bytes = Vec::new();
    from.take(MAX_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| cannot_read(path, &e))?;
    if bytes.len() > MAX_BYTES {
        return Err(CtlError::File {
            path: path.to_owned(),
            reason: format!("is larger than {MAX_BYTES} bytes: split it into several files"),
        });
    }
    String::from_utf8(bytes).map_err(|e| CtlError::File {
        path: path.to_owned(),
        reason: format!(
            "byte {} is not UTF-8: is this a manifest?",
            e.utf8_error().valid_up_to()
        ),
    })
}

fn cannot_read(path: &Path, error: &std::io::Error) -> CtlError {
    CtlError::File {
        path: path.to_owned(),
        reason: format!("cannot be read: {error}"),
    }
}
