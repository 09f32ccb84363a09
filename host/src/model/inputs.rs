//! Inputs that are made up, for commands that measure a model.

use std::iter;

use anyhow::anyhow;
use bytes::Bytes;
use half::{bf16, f16};
use ingle_types::{DType, Dim, Element, Limits, Shape, Signature, Tensor, TensorMap, TensorSpec};

use super::args::NamedShape;
use super::failure::Failure;

/// One tensor for each input that needs one, or that `shapes` names. A size that the
/// model leaves open is 1, or `batch` where it is the first.
pub(super) fn synthetic(
    signature: &Signature,
    shapes: &[NamedShape],
    batch: Option<usize>,
    limits: &Limits,
) -> Result<TensorMap, Failure> {
    if let Some(unknown) = shapes.iter().find(|shape| signature.input(&shape.name).is_none()) {
        let (name, names) = (&unknown.name, names(signature));
        return Err(Failure::usage(anyhow!(
            "--shape {unknown}: no input is called \"{name}\"; there are {names}"
        )));
    }
    let named = |spec: &TensorSpec| shapes.iter().find(|shape| shape.name == spec.name);
    let wanted = signature.inputs.iter().filter(|spec| !spec.optional || named(spec).is_some());
    if let Some(batch) = batch.filter(|&batch| batch > 1)
        && !signature.inputs.iter().any(|spec| !spec.optional && is_batched(spec))
    {
        return Err(Failure::usage(anyhow!(
            "--batch {batch}: the model fixes the first size of every input"
        )));
    }
    wanted
        .map(|spec| {
            let dims = dims(spec, named(spec), batch)?;
            Ok((spec.name.clone(), tensor(spec, dims, limits)?))
        })
        .collect()
}

/// The names of the inputs, in quotes.
pub(super) fn names(signature: &Signature) -> String {
    let names: Vec<_> = signature.inputs.iter().map(|spec| format!("\"{}\"", spec.name)).collect();
    names.join(", ")
}

/// `image=[1,3,224,224], mask=[1]`.
pub(super) fn shapes_text(inputs: &TensorMap) -> String {
    let shapes: Vec<_> =
        inputs.iter().map(|(name, tensor)| format!("{name}={}", tensor.shape())).collect();
    shapes.join(", ")
}

fn is_batched(spec: &TensorSpec) -> bool {
    spec.shape.as_ref().is_none_or(|shape| shape.first() == Some(&Dim::Any))
}

fn dims(
    spec: &TensorSpec,
    named: Option<&NamedShape>,
    batch: Option<usize>,
) -> Result<Vec<usize>, Failure> {
    let size = |dim: &Dim| match dim {
        Dim::Fixed(size) => *size,
        Dim::Any => 1,
    };
    let mut dims: Vec<usize> = match (named, &spec.shape) {
        (Some(named), _) => named.dims.clone(),
        (None, Some(shape)) => shape.iter().map(size).collect(),
        (None, None) => {
            let name = &spec.name;
            return Err(Failure::usage(anyhow!(
                "the model does not say the rank of \"{name}\": add --shape {name}=SIZE,SIZE,..."
            )));
        }
    };
    if let (Some(batch), Some(first)) = (batch, dims.first_mut())
        && is_batched(spec)
    {
        *first = batch;
    }
    Ok(dims)
}

/// Floats between 0 and 1 that look random, ones for integers, as they are an index
/// that most tables have, and short strings.
fn tensor(spec: &TensorSpec, dims: Vec<usize>, limits: &Limits) -> Result<Tensor, Failure> {
    let shape = Shape::new(dims).map_err(Failure::usage)?;
    let each = spec.dtype.size_bytes().unwrap_or(size_of::<Bytes>());
    let (count, limit) = (shape.elements(), limits.tensor_bytes);
    if count.saturating_mul(each) > limit {
        let name = &spec.name;
        return Err(Failure::usage(anyhow!(
            "an input \"{name}\" of shape {shape} is larger than the limit of {limit} bytes"
        )));
    }
    let made = match spec.dtype {
        DType::F32 => floats(&shape, |v| v),
        DType::F64 => floats(&shape, f64::from),
        DType::F16 => floats(&shape, f16::from_f32),
        DType::BF16 => floats(&shape, bf16::from_f32),
        DType::Bytes => Tensor::blobs(shape, vec![Bytes::from_static(b"a"); count]),
        dtype => {
            let mut one = vec![0; each];
            if let Some(low) = one.first_mut() {
                *low = 1;
            }
            Tensor::dense(dtype, shape, one.repeat(count))
        }
    };
    made.map_err(Failure::usage)
}

fn floats<T: Element>(
    shape: &Shape,
    convert: impl Fn(f32) -> T,
) -> Result<Tensor, ingle_types::TensorError> {
    let mut state = 0x2545_F491_u32;
    let values = iter::repeat_with(|| {
        // Xorshift; its upper 24 bits are a float's.
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        convert((state >> 8) as f32 / (1 << 24) as f32)
    });
    let values: Vec<T> = values.take(shape.elements()).collect();
    Tensor::from_slice(shape.dims(), &values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature() -> Signature {
        let image = TensorSpec::new("image", DType::F32, vec![Dim::Any, Dim::Fixed(3), Dim::Any]);
        let ids = TensorSpec::new("ids", DType::I64, vec![Dim::Any]);
        let scale = TensorSpec { optional: true, ..TensorSpec::new("scale", DType::F32, vec![]) };
        Signature { inputs: vec![image, ids, scale], ..Signature::default() }
    }

    fn shapes(texts: &[&str], batch: Option<usize>) -> Result<String, Failure> {
        let shapes: Vec<_> = texts.iter().map(|text| text.parse().unwrap()).collect();
        Ok(shapes_text(&synthetic(&signature(), &shapes, batch, &Limits::default())?))
    }

    #[test]
    fn open_sizes_are_one_or_the_batch_or_what_is_asked() {
        assert_eq!(shapes(&[], None).unwrap(), "ids=[1], image=[1,3,1]");
        assert_eq!(shapes(&[], Some(8)).unwrap(), "ids=[8], image=[8,3,1]");
        let asked = shapes(&["image=2,3,5", "scale="], Some(4)).unwrap();
        assert_eq!(asked, "ids=[4], image=[4,3,5], scale=[]");
    }

    #[test]
    fn what_cannot_be_made_says_why() {
        let text = |result: Result<String, Failure>| result.unwrap_err().into_error().to_string();
        assert!(text(shapes(&["picture=1"], None)).contains("\"image\", \"ids\""));
        assert!(text(shapes(&["image=99999999,99999999"], None)).contains("limit"));
        let mut fixed = signature();
        fixed.inputs = vec![TensorSpec::new("x", DType::F32, vec![Dim::Fixed(1)])];
        let refused = synthetic(&fixed, &[], Some(2), &Limits::default());
        assert!(refused.unwrap_err().into_error().to_string().contains("--batch 2"));
        fixed.inputs[0].shape = None;
        let refused = synthetic(&fixed, &[], None, &Limits::default());
        assert!(refused.unwrap_err().into_error().to_string().contains("--shape x="));
    }

    #[test]
    fn every_type_can_be_made() {
        for dtype in DType::ALL {
            let spec = TensorSpec::new("x", dtype, vec![Dim::Fixed(2)]);
            let signature = Signature { inputs: vec![spec], ..Signature::default() };
            let made = synthetic(&signature, &[], None, &Limits::default()).unwrap();
            assert_eq!((made["x"].dtype(), made["x"].dims()), (dtype, &[2][..]));
        }
        let signature = signature();
        let made = synthetic(&signature, &[], None, &Limits::default()).unwrap();
        assert!(made["image"].as_slice::<f32>().unwrap().iter().all(|v| (0.0..1.0).contains(v)));
        assert_eq!(made["ids"].as_slice::<i64>().unwrap().as_ref(), [1]);
    }
}
