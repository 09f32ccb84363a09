use std::cell::RefCell;
use std::collections::HashMap;

use bytes::Bytes;
use ingle_types::Code;

/// Where tensors that are kept outside of the model file are read from.
///
/// The engine checks `location` before it asks: it is relative, of plain
/// components, and does not climb. What is behind the name (a link out of the
/// bundle) only the implementation can check.
pub trait ExternalData {
    /// The whole file at `location`.
    ///
    /// # Errors
    /// Where there is no such file inside the bundle.
    fn read(&self, location: &str) -> Result<Bytes, ExternalDataError>;
}

/// For models that must be one file: every external tensor is refused.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoExternalData;

impl ExternalData for NoExternalData {
    fn read(&self, _: &str) -> Result<Bytes, ExternalDataError> {
        Err(ExternalDataError::Refused)
    }
}

/// Reads each file once, however many tensors are in it.
pub(crate) struct ReadOnce<'a> {
    from: &'a dyn ExternalData,
    files: RefCell<HashMap<String, Bytes>>,
}

impl<'a> ReadOnce<'a> {
    pub(crate) fn new(from: &'a dyn ExternalData) -> Self {
        Self { from, files: RefCell::default() }
    }
}

impl ExternalData for ReadOnce<'_> {
    fn read(&self, location: &str) -> Result<Bytes, ExternalDataError> {
        let known = self.files.borrow().get(location).cloned();
        if let Some(file) = known {
            return Ok(file);
        }
        let file = self.from.read(location)?;
        self.files.borrow_mut().insert(location.to_owned(), file.clone());
        Ok(file)
    }
}

/// Why external data could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ExternalDataError {
    #[error("external data is not allowed here")]
    Refused,
    #[error("there is no such file in the bundle")]
    NotFound,
    #[error("the file could not be read: {0}")]
    Read(std::io::Error),
}

impl ExternalDataError {
    pub fn code(&self) -> Code {
        match self {
            Self::Refused => Code::InvalidArgument,
            Self::NotFound => Code::NotFound,
            Self::Read(_) => Code::Unavailable,
        }
    }
}

/// Whether `location` names a file beside or below the model and nothing else.
pub(crate) fn is_inside(location: &str) -> bool {
    let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    !location.contains(['\\', '\0', ':']) && location.split('/').all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_once() {
        struct Once(RefCell<usize>);
        impl ExternalData for Once {
            fn read(&self, _: &str) -> Result<Bytes, ExternalDataError> {
                *self.0.borrow_mut() += 1;
                Ok(Bytes::from_static(b"w"))
            }
        }
        let files = Once(RefCell::default());
        let read_once = ReadOnce::new(&files);
        for location in ["a", "b", "a", "b"] {
            assert_eq!(read_once.read(location).unwrap(), "w");
        }
        assert_eq!(*files.0.borrow(), 2);
    }

    #[test]
    fn only_plain_relative_names_are_inside() {
        for inside in ["weights.bin", "data/weights.bin", "..data", "a.b"] {
            assert!(is_inside(inside), "{inside}");
        }
        for outside in ["", "/etc/passwd", "../w", "a/../w", "a//w", "./w", "c:w", "a\\..\\w", "a/"]
        {
            assert!(!is_inside(outside), "{outside}");
        }
    }
}
