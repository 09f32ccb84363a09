use std::borrow::Cow;
use std::fmt;

use bytemuck::{Pod, pod_read_unaligned, try_cast_slice, try_cast_slice_mut};
use half::{bf16, f16};

use crate::{Result, internal, invalid_argument};

// Tensor bytes are little-endian, and the views below reinterpret them.
#[cfg(target_endian = "big")]
compile_error!("ingle-plugin is written for little-endian targets");

/// The element type of a [`Tensor`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataType {
    Boolean,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Int8,
    Int16,
    Int32,
    Int64,
    Float16,
    Bfloat16,
    Float32,
    Float64,
    /// A byte string for each element: text, an encoded picture.
    Bytes,
}

impl DataType {
    /// The name that the contract gives it: `float32`, `bytes`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::Uint8 => "uint8",
            Self::Uint16 => "uint16",
            Self::Uint32 => "uint32",
            Self::Uint64 => "uint64",
            Self::Int8 => "int8",
            Self::Int16 => "int16",
            Self::Int32 => "int32",
            Self::Int64 => "int64",
            Self::Float16 => "float16",
            Self::Bfloat16 => "bfloat16",
            Self::Float32 => "float32",
            Self::Float64 => "float64",
            Self::Bytes => "bytes",
        }
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A Rust type whose memory is an element of a dense tensor.
pub trait Element: Pod {
    const DATA_TYPE: DataType;
}

macro_rules! element {
    ($($rust:ty => $data_type:ident),+ $(,)?) => {
        $(impl Element for $rust {
            const DATA_TYPE: DataType = DataType::$data_type;
        })+
    };
}

element! {
    u8 => Uint8, u16 => Uint16, u32 => Uint32, u64 => Uint64,
    i8 => Int8, i16 => Int16, i32 => Int32, i64 => Int64,
    f16 => Float16, bf16 => Bfloat16, f32 => Float32, f64 => Float64,
}

/// The elements of a [`Tensor`], row-major.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TensorData {
    /// Little-endian; as many bytes as the shape and the data type say.
    Dense(Vec<u8>),
    /// For [`DataType::Bytes`]: one byte string for each element.
    Blobs(Vec<Vec<u8>>),
}

/// A named array. A plugin never sees a batch dimension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    pub name: String,
    pub data_type: DataType,
    pub shape: Vec<u64>,
    pub data: TensorData,
}

impl Tensor {
    /// A dense tensor with a copy of `elements`.
    pub fn dense<T: Element>(
        name: impl Into<String>,
        shape: &[u64],
        elements: &[T],
    ) -> Result<Self> {
        let name = name.into();
        expect_count(&name, shape, elements.len())?;
        let data = TensorData::Dense(bytemuck::cast_slice(elements).to_vec());
        Ok(Self { name, data_type: T::DATA_TYPE, shape: shape.to_vec(), data })
    }

    /// A dense tensor of zeros whose elements `fill` then writes, without a copy.
    pub fn dense_with<T: Element>(
        name: impl Into<String>,
        shape: &[u64],
        fill: impl FnOnce(&mut [T]),
    ) -> Result<Self> {
        let name = name.into();
        let count = element_count(shape)
            .and_then(|count| count.checked_mul(size_of::<T>()))
            .ok_or_else(|| internal!("output {name:?}: shape {shape:?} is too large"))?;
        let mut bytes = vec![0; count];
        match try_cast_slice_mut(&mut bytes) {
            Ok(elements) => fill(elements),
            // The allocator's answer was not aligned for T: one copy more.
            Err(_) => {
                let mut elements = vec![T::zeroed(); count / size_of::<T>()];
                fill(&mut elements);
                bytes.copy_from_slice(bytemuck::cast_slice(&elements));
            }
        }
        let data = TensorData::Dense(bytes);
        Ok(Self { name, data_type: T::DATA_TYPE, shape: shape.to_vec(), data })
    }

    /// A tensor of byte strings.
    pub fn bytes(name: impl Into<String>, shape: &[u64], blobs: Vec<Vec<u8>>) -> Result<Self> {
        let name = name.into();
        expect_count(&name, shape, blobs.len())?;
        let data = TensorData::Blobs(blobs);
        Ok(Self { name, data_type: DataType::Bytes, shape: shape.to_vec(), data })
    }

    /// The elements, borrowed where the bytes are aligned for `T` (in practice always),
    /// copied otherwise. INVALID_ARGUMENT where the data type is another.
    pub fn view<T: Element>(&self) -> Result<Cow<'_, [T]>> {
        match &self.data {
            TensorData::Dense(bytes) if self.data_type == T::DATA_TYPE => {
                if bytes.len() % size_of::<T>() != 0 {
                    let (name, length) = (&self.name, bytes.len());
                    return Err(invalid_argument!(
                        "{name}: {length} bytes are no whole number of {}",
                        T::DATA_TYPE
                    ));
                }
                Ok(cast_or_copy(bytes))
            }
            _ => Err(invalid_argument!(
                "{}: the data type is {}, not {}",
                self.name,
                self.data_type,
                T::DATA_TYPE
            )),
        }
    }

    /// Any floating-point tensor as float32; wider numbers are rounded.
    pub fn to_f32(&self) -> Result<Cow<'_, [f32]>> {
        match self.data_type {
            DataType::Float64 => Ok(self.view::<f64>()?.iter().map(|&x| x as f32).collect()),
            DataType::Float16 => Ok(self.view::<f16>()?.iter().map(|x| x.to_f32()).collect()),
            DataType::Bfloat16 => Ok(self.view::<bf16>()?.iter().map(|x| x.to_f32()).collect()),
            _ => self.view::<f32>(),
        }
    }

    /// The byte strings of a tensor of data type `bytes`.
    pub fn blobs(&self) -> Result<&[Vec<u8>]> {
        match &self.data {
            TensorData::Blobs(blobs) => Ok(blobs),
            TensorData::Dense(_) => Err(invalid_argument!(
                "{}: the data type is {}, not bytes",
                self.name,
                self.data_type
            )),
        }
    }

    /// The only byte string of a tensor with one element.
    pub fn single_blob(&self) -> Result<&[u8]> {
        match self.blobs()? {
            [blob] => Ok(blob),
            blobs => {
                Err(invalid_argument!("{}: {} elements, expected one", self.name, blobs.len()))
            }
        }
    }
}

/// `bytes` as elements; the length must be a whole number of them.
fn cast_or_copy<T: Element>(bytes: &[u8]) -> Cow<'_, [T]> {
    match try_cast_slice(bytes) {
        Ok(elements) => Cow::Borrowed(elements),
        Err(_) => Cow::Owned(bytes.chunks_exact(size_of::<T>()).map(pod_read_unaligned).collect()),
    }
}

/// The product of the dimensions; `None` where it does not fit.
pub(crate) fn element_count(shape: &[u64]) -> Option<usize> {
    shape.iter().try_fold(1_usize, |count, &size| count.checked_mul(usize::try_from(size).ok()?))
}

fn expect_count(name: &str, shape: &[u64], count: usize) -> Result<()> {
    if element_count(shape) == Some(count) {
        return Ok(());
    }
    Err(internal!("output {name:?}: {count} elements do not fill shape {shape:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Code;

    #[test]
    fn a_view_borrows_and_gives_the_elements_back() {
        let tensor = Tensor::dense("x", &[2, 2], &[1.0_f32, 2.0, 3.0, 4.0]).unwrap();
        assert_eq!(&*tensor.view::<f32>().unwrap(), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(tensor.data_type, DataType::Float32);
    }

    #[test]
    fn unaligned_bytes_are_copied() {
        let bytes = [0_u8, 1, 2, 3, 4, 5];
        let odd = usize::from(bytes.as_ptr().addr().is_multiple_of(2));
        let elements = cast_or_copy::<u16>(&bytes[odd..odd + 4]);
        assert!(matches!(elements, Cow::Owned(_)));
        let first = u16::from_le_bytes([bytes[odd], bytes[odd + 1]]);
        assert_eq!(elements[0], first);
        assert_eq!(elements.len(), 2);
    }

    #[test]
    fn a_view_of_another_type_names_both_types() {
        let tensor = Tensor::dense("x", &[1], &[1_u8]).unwrap();
        let error = tensor.view::<f32>().unwrap_err();
        assert_eq!(error.code, Code::InvalidArgument);
        assert_eq!(error.message, "x: the data type is uint8, not float32");
    }

    #[test]
    fn a_view_refuses_half_an_element() {
        let tensor = Tensor {
            name: "x".into(),
            data_type: DataType::Float32,
            shape: vec![1],
            data: TensorData::Dense(vec![0; 5]),
        };
        assert_eq!(
            tensor.view::<f32>().unwrap_err().message,
            "x: 5 bytes are no whole number of float32"
        );
    }

    #[test]
    fn every_float_becomes_float32() {
        let half = Tensor::dense("x", &[1], &[f16::from_f32(1.5)]).unwrap();
        let brain = Tensor::dense("x", &[1], &[bf16::from_f32(1.5)]).unwrap();
        let double = Tensor::dense("x", &[1], &[1.5_f64]).unwrap();
        for tensor in [half, brain, double] {
            assert_eq!(&*tensor.to_f32().unwrap(), [1.5]);
        }
        let integers = Tensor::dense("x", &[1], &[1_i64]).unwrap();
        assert!(integers.to_f32().is_err());
    }

    #[test]
    fn a_tensor_whose_elements_do_not_fill_its_shape_is_refused() {
        assert_eq!(Tensor::dense("y", &[3], &[1_u8]).unwrap_err().code, Code::Internal);
        assert!(Tensor::bytes("y", &[], vec![]).is_err());
        assert!(Tensor::dense_with::<f32>("y", &[u64::MAX, 8], |_| ()).is_err());
    }

    #[test]
    fn a_single_blob_must_be_single() {
        let one = Tensor::bytes("image", &[], vec![b"abc".to_vec()]).unwrap();
        assert_eq!(one.single_blob().unwrap(), b"abc");
        let two = Tensor::bytes("image", &[2], vec![vec![], vec![]]).unwrap();
        assert_eq!(two.single_blob().unwrap_err().message, "image: 2 elements, expected one");
    }
}
