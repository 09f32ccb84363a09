//! Preparing features: scaling, replacing, choosing and joining them.

use ingle_types::{DType, Tensor};

use super::{DOMAIN, output, rows_of, singles};
use crate::kernels::Kernels;
use crate::ops::gather::take;
use crate::ops::generate::placed;
use crate::ops::{Args, Built, Registry, op};
use crate::value::{Host, HostData, Value};
use crate::{BuildError, OpError};

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    r.add_in(DOMAIN, "Scaler", 1.., 1..=1, scaler);
    r.add_in(DOMAIN, "Normalizer", 1.., 1..=1, normalizer);
    r.add_in(DOMAIN, "Binarizer", 1.., 1..=1, binarizer);
    r.add_in(DOMAIN, "Imputer", 1.., 1..=1, imputer);
    r.add_in(DOMAIN, "ArrayFeatureExtractor", 1.., 2..=2, extractor);
    r.add_in(DOMAIN, "FeatureVectorizer", 1.., 1.., vectorizer);
}

/// Values that all features share, or one for each feature.
struct PerFeature<T>(Vec<T>);

impl<T: Copy> PerFeature<T> {
    /// Which value each element of a tensor of shape `dims` has.
    fn of_each<'a>(&'a self, dims: &[usize]) -> Result<impl Iterator<Item = T> + 'a, OpError> {
        let columns = dims.last().copied().unwrap_or(1);
        if self.0.len() != 1 && (self.0.len() != columns || dims.len() > 2) {
            let what = "features and values for them";
            return Err(OpError::Mismatch { what, left: dims.to_vec(), right: vec![self.0.len()] });
        }
        Ok(self.0.iter().copied().cycle())
    }
}

fn per_feature<B: Kernels>(
    args: &Args<'_, B>,
    name: &'static str,
    default: f32,
) -> Result<PerFeature<f32>, BuildError> {
    match args.floats(name)? {
        Some([]) => Err(BuildError::Value { name, reason: "it is empty" }),
        Some(values) => Ok(PerFeature(values.to_vec())),
        None => Ok(PerFeature(vec![default])),
    }
}

fn scaler<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let (offset, scale) = (per_feature(args, "offset", 0.)?, per_feature(args, "scale", 1.)?);
    op(move |ctx, mut inputs| {
        let x = inputs.take(0)?.to_tensor(ctx)?;
        let dims = x.dims();
        ctx.admit(DType::F32, dims)?;
        let (offset, scale) = (offset.of_each(dims)?, scale.of_each(dims)?);
        let y: Vec<f32> = if let Ok(x) = x.as_slice::<f64>() {
            let scaled =
                |((x, o), s): ((&f64, f32), f32)| ((x - f64::from(o)) * f64::from(s)) as f32;
            x.iter().zip(offset).zip(scale).map(scaled).collect()
        } else {
            singles(&x)?.iter().zip(offset).zip(scale).map(|((x, o), s)| (x - o) * s).collect()
        };
        Ok(vec![output(ctx, dims, &y)?])
    })
}

fn normalizer<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let norm: fn(&[f32]) -> f32 = match &*args.string("norm", "MAX")? {
        "MAX" => |row| row.iter().copied().fold(f32::MIN, f32::max),
        "L1" => |row| row.iter().map(|v| v.abs()).sum(),
        "L2" => |row| row.iter().map(|v| v * v).sum::<f32>().sqrt(),
        _ => return Err(BuildError::Value { name: "norm", reason: "no such norm" }),
    };
    op(move |ctx, mut inputs| {
        let x = inputs.take(0)?.to_tensor(ctx)?;
        let [_, columns] = rows_of(x.dims())?;
        ctx.admit(DType::F32, x.dims())?;
        let mut y = singles(&x)?.into_owned();
        for row in y.chunks_mut(columns.max(1)) {
            let divisor = norm(row);
            if divisor != 0. {
                row.iter_mut().for_each(|v| *v /= divisor);
            }
        }
        Ok(vec![output(ctx, x.dims(), &y)?])
    })
}

fn binarizer<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let threshold = args.float("threshold", 0.)?;
    op(move |ctx, mut inputs| {
        let x = inputs.take(0)?.to_host(ctx)?;
        let above = x.to_f64().into_iter().map(|v| i64::from(v > threshold)).collect();
        let flags = Host::ints(DType::I64, x.dims().to_vec(), above).cast(number_type(&x)?);
        Ok(vec![placed(ctx, flags)?])
    })
}

/// The tensor's dtype, where these operators compute with it.
fn number_type(x: &Host) -> Result<DType, OpError> {
    match x.dtype() {
        DType::Bytes | DType::Bool => {
            let expected = "float, double, int64 or int32";
            Err(OpError::DType { what: "the features", expected, given: x.dtype() })
        }
        dtype => Ok(dtype),
    }
}

/// What is replaced, by what.
enum Imputation {
    Floats(f64, PerFeature<f64>),
    Ints(i64, PerFeature<i64>),
}

fn imputer<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let floats = args.floats("imputed_value_floats")?.unwrap_or_default();
    let ints = args.ints("imputed_value_int64s")?.unwrap_or_default();
    let (missing, missing_int) =
        (args.float("replaced_value_float", 0.)?, args.int("replaced_value_int64", 0)?);
    let imputation = match (floats, ints) {
        ([], []) => return Err(BuildError::Missing { name: "imputed_value_floats" }),
        ([], ints) => Imputation::Ints(missing_int, PerFeature(ints.to_vec())),
        (floats, _) => {
            let values = floats.iter().map(|&v| v.into()).collect();
            Imputation::Floats(missing, PerFeature(values))
        }
    };
    op(move |ctx, mut inputs| {
        let x = inputs.take(0)?.to_host(ctx)?;
        let dims = x.dims().to_vec();
        let y = match (x.data(), &imputation) {
            (HostData::Float(x_values), Imputation::Floats(missing, values)) => {
                let is_missing = |v: f64| v == *missing || v.is_nan() && missing.is_nan();
                let pairs = x_values.iter().zip(values.of_each(&dims)?);
                let y = pairs.map(|(&v, new)| if is_missing(v) { new } else { v }).collect();
                Host::floats(x.dtype(), dims, y)
            }
            (HostData::Int(x_values), Imputation::Ints(missing, values)) => {
                let pairs = x_values.iter().zip(values.of_each(&dims)?);
                let y = pairs.map(|(&v, new)| if v == *missing { new } else { v }).collect();
                Host::ints(number_type(&x)?, dims, y)
            }
            _ => {
                let expected = "of the imputed values' type";
                return Err(OpError::DType { what: "the features", expected, given: x.dtype() });
            }
        };
        Ok(vec![placed(ctx, y)?])
    })
}

/// Columns of the last axis, by index.
fn extractor<B: Kernels>(_: &Args<'_, B>) -> Built<B> {
    op(|ctx, mut inputs| {
        let x = inputs.take(0)?;
        let x = if x.rank() == 1 { x.with_rank(2) } else { x };
        let indices = inputs.take(1)?;
        let count = indices.elements();
        let Some(axis) = x.rank().checked_sub(1).filter(|_| count > 0) else {
            return Err(OpError::Dims { what: "the indices", dims: indices.dims() });
        };
        let picked = take(ctx, x, axis, indices.reshape(vec![count]))?;
        Ok(vec![picked])
    })
}

/// Joins columns; each operand is cut or filled with zeros to its declared width.
fn vectorizer<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let widths = args.sizes("inputdimensions")?;
    if widths.as_ref().is_some_and(|widths| widths.len() != args.inputs()) {
        let reason = "not one for each input";
        return Err(BuildError::Value { name: "inputdimensions", reason });
    }
    op(move |ctx, mut inputs| {
        let parts = inputs.take_all()?;
        let parts: Vec<Tensor> =
            parts.iter().map(|part| part.to_tensor(ctx)).collect::<Result<_, _>>()?;
        let shapes: Vec<[usize; 2]> =
            parts.iter().map(|part| rows_of(part.dims())).collect::<Result<_, _>>()?;
        let rows = shapes.first().map_or(0, |shape| shape[0]);
        if let Some(other) = shapes.iter().find(|shape| shape[0] != rows) {
            let what = "the number of rows";
            return Err(OpError::Mismatch { what, left: vec![rows], right: other.to_vec() });
        }
        let own: Vec<usize> = shapes.iter().map(|shape| shape[1]).collect();
        let widths = widths.as_ref().unwrap_or(&own);
        let width = widths.iter().fold(0usize, |sum, &w| sum.saturating_add(w));
        ctx.admit(DType::F32, &[rows, width])?;
        if width == 0 {
            // Rows without columns may be any number.
            return Ok(vec![Value::empty(DType::F32, vec![rows, 0])]);
        }
        let parts: Vec<_> = parts.iter().map(singles).collect::<Result<_, _>>()?;
        let mut y = Vec::with_capacity(rows.saturating_mul(width));
        for row in 0..rows {
            for ((part, &columns), &width) in parts.iter().zip(&own).zip(widths) {
                let values = part.get(row * columns..(row + 1) * columns).unwrap_or_default();
                y.extend(values.iter().copied().chain(std::iter::repeat(0.)).take(width));
            }
        }
        Ok(vec![output(ctx, &[rows, width], &y)?])
    })
}

#[cfg(test)]
mod tests {
    use ingle_types::Tensor;

    use crate::testing::{Case, bools, f32s, i64s, tensor, texts};

    fn case(operator: &str, x: Tensor) -> Case {
        Case::of(operator, [x]).ml(1)
    }

    #[test]
    fn features_are_moved_and_scaled() {
        let scaler = |x| case("Scaler", x).floats("offset", &[1., 2.]).floats("scale", &[2., 3.]);
        scaler(f32s(&[2, 2], &[1., 2., -3., 1.])).gives([f32s(&[2, 2], &[0., 0., -8., -3.])]);
        scaler(i64s(&[2], &[3, 4])).gives([f32s(&[2], &[4., 6.])]);
        scaler(tensor(&[1, 2], &[1.5f64, 2.])).gives([f32s(&[1, 2], &[1., 0.])]);
        scaler(f32s(&[1, 3], &[0.; 3])).fails("features and values for them");
        scaler(bools(&[1, 2], &[0, 1])).fails("the features must be");
        case("Scaler", f32s(&[1, 1, 2], &[1., 2.]))
            .floats("scale", &[2.])
            .gives([f32s(&[1, 1, 2], &[2., 4.])]);
        case("Scaler", f32s(&[1], &[1.])).floats("scale", &[]).fails("it is empty");
    }

    #[test]
    fn rows_are_divided_by_their_norm() {
        let x = || f32s(&[3, 2], &[1., 2., -3., 1., 0., 0.]);
        let normed = |norm: &str, wanted: [f32; 4]| {
            let wanted = [&wanted[..], &[0., 0.]].concat();
            case("Normalizer", x()).string("norm", norm).gives([f32s(&[3, 2], &wanted)]);
        };
        normed("MAX", [0.5, 1., -3., 1.]);
        normed("L1", [0.33333334, 0.6666667, -0.75, 0.25]);
        normed("L2", [0.4472136, 0.8944272, -0.94868326, 0.31622776]);
        case("Normalizer", f32s(&[0, 0], &[])).gives([f32s(&[0, 0], &[])]);
        case("Normalizer", x()).string("norm", "L3").fails("no such norm");
        case("Normalizer", f32s(&[1, 1, 1], &[1.])).fails("the features");
    }

    #[test]
    fn values_above_the_threshold_are_ones() {
        case("Binarizer", f32s(&[3], &[1., 1.5, f32::NAN]))
            .float("threshold", 1.)
            .gives([f32s(&[3], &[0., 1., 0.])]);
        case("Binarizer", i64s(&[2], &[0, 5])).gives([i64s(&[2], &[0, 1])]);
        case("Binarizer", texts(&[1], &["a"])).fails("the features must be");
    }

    #[test]
    fn missing_values_are_replaced() {
        let x = f32s(&[2, 2], &[1., f32::NAN, f32::NAN, 0.]);
        case("Imputer", x.clone())
            .floats("imputed_value_floats", &[5., 6.])
            .float("replaced_value_float", f32::NAN)
            .gives([f32s(&[2, 2], &[1., 6., 5., 0.])]);
        case("Imputer", i64s(&[3], &[1, 0, 2]))
            .ints("imputed_value_int64s", &[9])
            .gives([i64s(&[3], &[1, 9, 2])]);
        case("Imputer", x.clone()).ints("imputed_value_int64s", &[9]).fails("imputed values' type");
        case("Imputer", x.clone())
            .floats("imputed_value_floats", &[1.; 3])
            .fails("values for them");
        case("Imputer", x).fails("is missing");
    }

    #[test]
    fn columns_are_extracted() {
        let x = f32s(&[2, 3], &[1., 2., 3., 4., 5., 6.]);
        let extract = |x, indices: &[i64]| {
            Case::of("ArrayFeatureExtractor", [x, i64s(&[indices.len()], indices)]).ml(1)
        };
        extract(x.clone(), &[2, 0]).gives([f32s(&[2, 2], &[3., 1., 6., 4.])]);
        extract(texts(&[3], &["a", "b", "c"]), &[1, 1]).gives([texts(&[1, 2], &["b", "b"])]);
        extract(x.clone(), &[3]).fails("index 3");
        extract(x, &[]).fails("the indices");
        extract(f32s(&[], &[1.]), &[0]).fails("the indices");
    }

    #[test]
    fn columns_are_joined_cut_and_filled() {
        let parts = [i64s(&[2, 2], &[1, 2, 3, 4]), i64s(&[2, 1], &[5, 6])];
        Case::of("FeatureVectorizer", parts.clone())
            .ml(1)
            .gives([f32s(&[2, 3], &[1., 2., 5., 3., 4., 6.])]);
        let widths = |widths: &[i64]| {
            Case::of("FeatureVectorizer", parts.clone()).ml(1).ints("inputdimensions", widths)
        };
        widths(&[1, 2]).gives([f32s(&[2, 3], &[1., 5., 0., 3., 6., 0.])]);
        widths(&[1]).fails("not one for each input");
        widths(&[1, 4_000_000_000]).fails("larger than the limit");
        widths(&[1, -1]).fails("negative or too large");
        let none = f32s(&[1 << 40, 0], &[]);
        Case::of("FeatureVectorizer", [none.clone()]).ml(1).gives([none]);
        Case::of("FeatureVectorizer", [i64s(&[1, 1], &[1]), i64s(&[2, 1], &[1, 2])])
            .ml(1)
            .fails("the number of rows");
    }
}
