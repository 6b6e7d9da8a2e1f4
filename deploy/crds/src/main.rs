//! Writes the CustomResourceDefinitions to the folder that is named, or to `deploy/manifests/crds` of the folder that it
//! runs in.

use std::path::PathBuf;

use anyhow::Context;
use roadbed_api::Kind;

fn main() -> anyhow::Result<()> {
    let folder = std::env::args_os()
        .nth(1)
        .map_or_else(|| PathBuf::from("deploy/manifests/crds"), PathBuf::from);
    for kind in Kind::ALL {
        let path = folder.join(roadbed_crds::file_name(kind));
        let text = roadbed_crds::to_yaml(&roadbed_crds::definition(kind)?)?;
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
