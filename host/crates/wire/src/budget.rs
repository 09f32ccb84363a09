//! What the tensors of one request may take in memory.

/// Bytes that may still be decoded.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: usize,
    left: usize,
}

/// The tensors of a request are larger than `limit` bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request's tensors are larger than the limit of {limit} bytes")]
pub struct TooLarge {
    pub limit: usize,
}

impl Budget {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, left: limit }
    }

    /// To be asked before memory is.
    pub(crate) fn take(&mut self, bytes: usize) -> Result<(), TooLarge> {
        self.left = self.left.checked_sub(bytes).ok_or(TooLarge { limit: self.limit })?;
        Ok(())
    }
}
