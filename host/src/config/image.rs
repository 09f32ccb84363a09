use std::path::PathBuf;

use super::variable;

/// The model of TensorFlow Serving's image, which the environment names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImageModel {
    pub(crate) name: String,
    pub(crate) base_path: PathBuf,
}

impl Default for ImageModel {
    fn default() -> Self {
        Self::of(None, None)
    }
}

impl ImageModel {
    /// By `MODEL_NAME` and `MODEL_BASE_PATH`, where there is one of them.
    pub(crate) fn from_environment() -> Option<Self> {
        let (name, folder) = (variable("MODEL_NAME"), variable("MODEL_BASE_PATH"));
        (name.is_some() || folder.is_some()).then(|| Self::of(name, folder))
    }

    pub(super) fn of(name: Option<String>, folder: Option<String>) -> Self {
        let name = name.unwrap_or_else(|| "model".to_owned());
        let folder = PathBuf::from(folder.unwrap_or_else(|| "/models".to_owned()));
        Self { base_path: folder.join(&name), name }
    }
}
