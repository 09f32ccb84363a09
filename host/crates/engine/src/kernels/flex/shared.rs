//! Weights that several programs hold once: versions of a model often differ in
//! few of them.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use burn::tensor::{Bytes, DType};
use burn_flex::FlexTensor;
use sha2::{Digest, Sha256};

/// Smaller ones are not worth looking for, in bytes.
const LEAST: usize = 1 << 16;

type Key = [u8; 32];

/// What was made of some bytes, as long as somebody holds it.
pub(super) struct Shared<T> {
    by_content: LazyLock<Mutex<HashMap<Key, Weak<T>>>>,
}

impl<T> Shared<T> {
    pub(super) const fn new() -> Self {
        Self { by_content: LazyLock::new(Mutex::default) }
    }

    /// What was made of these bytes before, in the same `form`, or is made now.
    pub(super) fn get_or(&self, bytes: &[u8], form: &[usize], make: impl FnOnce() -> T) -> Arc<T> {
        if bytes.len() < LEAST {
            return Arc::new(make());
        }
        let key = key(bytes, form);
        let known = || self.by_content.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = known().get(&key).and_then(Weak::upgrade) {
            return shared;
        }
        // Without the lock: another program's weights need not wait for these.
        let made = Arc::new(make());
        let mut known = known();
        if let Some(shared) = known.get(&key).and_then(Weak::upgrade) {
            return shared;
        }
        known.retain(|_, weak| weak.strong_count() > 0);
        known.insert(key, Arc::downgrade(&made));
        made
    }
}

fn key(bytes: &[u8], form: &[usize]) -> Key {
    let mut hash = Sha256::new();
    for part in form {
        hash.update(part.to_le_bytes());
    }
    hash.update([0xff]);
    hash.update(bytes);
    hash.finalize().into()
}

/// The same tensor, in memory that other programs' tensors of the same bytes use.
pub(super) fn constant(tensor: FlexTensor) -> FlexTensor {
    static CONSTANTS: Shared<Bytes> = Shared::new();
    let (dtype, layout) = (tensor.dtype(), tensor.layout().clone());
    if tensor.bytes().len() < LEAST || matches!(dtype, DType::QFloat(_)) {
        return tensor;
    }
    // A copy, also where nobody has one yet: the bytes may be a piece of the whole file.
    let shared =
        CONSTANTS.get_or(tensor.bytes(), &[], || Bytes::from_bytes_vec(tensor.bytes().to_vec()));
    FlexTensor::from_arc(shared, layout, dtype)
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;

    use super::*;

    #[test]
    fn equal_bytes_in_one_form_are_made_into_one_thing() {
        let shared = Shared::<Vec<u8>>::new();
        let bytes = vec![7; LEAST];
        let first = shared.get_or(&bytes, &[1, 2], || bytes.clone());
        let again = shared.get_or(&bytes, &[1, 2], || panic!("made again"));
        assert!(Arc::ptr_eq(&first, &again));
        let turned = shared.get_or(&bytes, &[2, 1], || vec![1]);
        assert!(!Arc::ptr_eq(&first, &turned));
        let other = shared.get_or(&[8; LEAST], &[1, 2], || vec![2]);
        assert_eq!((first.len(), turned.len(), other.len()), (LEAST, 1, 1));
        let small = || shared.get_or(&[1, 2, 3], &[], || vec![3]);
        assert!(!Arc::ptr_eq(&small(), &small()));
    }

    #[test]
    fn what_nobody_holds_is_forgotten() {
        let shared = Shared::<u8>::new();
        drop(shared.get_or(&[1; LEAST], &[], || 1));
        assert_eq!(*shared.get_or(&[1; LEAST], &[], || 2), 2);
        drop(shared.get_or(&[2; LEAST], &[], || 3));
        assert_eq!(shared.by_content.lock().unwrap().len(), 1);
    }

    #[test]
    fn constants_of_two_programs_lie_in_one_place() {
        let values: Vec<f32> = (0..LEAST).map(|i| i as f32).collect();
        let tensor = || FlexTensor::from_data(TensorData::new(values.clone(), [LEAST]));
        let (one, two) = (constant(tensor()), constant(tensor()));
        assert_eq!(one.bytes().as_ptr(), two.bytes().as_ptr());
        assert_eq!(one.into_data(), tensor().into_data());
    }
}
