//! What the requests of one connection may hold of the server's memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that the messages of a connection's requests may still take, all together.
/// HTTP/2 lets a connection have many at once, each as large as a message may be.
#[derive(Debug)]
pub(crate) struct Allowance {
    limit: usize,
    left: AtomicUsize,
}

/// The requests of a connection are larger than `limit` bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the messages in flight of this connection are larger than the limit of {limit} bytes")]
pub(crate) struct Exceeded {
    pub(crate) limit: usize,
}

impl Allowance {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, left: AtomicUsize::new(limit) })
    }
}

/// What one request has taken, given back with its last clone.
#[derive(Clone, Debug)]
pub(crate) struct Share(Arc<Taken>);

#[derive(Debug)]
struct Taken {
    allowance: Arc<Allowance>,
    bytes: AtomicUsize,
}

impl Share {
    pub(crate) fn of(allowance: &Arc<Allowance>) -> Self {
        let taken = Taken { allowance: allowance.clone(), bytes: AtomicUsize::new(0) };
        Self(Arc::new(taken))
    }

    pub(crate) fn take(&self, bytes: usize) -> Result<(), Exceeded> {
        let Allowance { limit, left } = &*self.0.allowance;
        let less = |left: usize| left.checked_sub(bytes);
        left.fetch_update(Ordering::AcqRel, Ordering::Acquire, less)
            .map_err(|_| Exceeded { limit: *limit })?;
        self.0.bytes.fetch_add(bytes, Ordering::AcqRel);
        Ok(())
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.allowance.left.fetch_add(*self.bytes.get_mut(), Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_request_took_comes_back_with_its_end() {
        let allowance = Allowance::new(10);
        let (one, two) = (Share::of(&allowance), Share::of(&allowance));
        assert_eq!(one.take(6), Ok(()));
        assert_eq!(two.take(5), Err(Exceeded { limit: 10 }));
        assert_eq!(two.take(4), Ok(()));
        let clone = one.clone();
        drop(one);
        assert_eq!(two.take(1), Err(Exceeded { limit: 10 }));
        drop(clone);
        assert_eq!(two.take(6), Ok(()));
        drop(two);
        assert_eq!(Share::of(&allowance).take(10), Ok(()));
    }
}
