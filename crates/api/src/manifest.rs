//! Manifests: one or more YAML documents, as people write them and `roadbedctl apply` reads them.
