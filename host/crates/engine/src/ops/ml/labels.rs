//! Maps between categories: strings, integers and floats.

use std::collections::HashMap;

use bytes::Bytes;
use ingle_types::{DType, Tensor};

use super::{DOMAIN, output, rows_of, singles};
use crate::context::Context;
use crate::kernels::Kernels;
use crate::ops::generate::placed;
use crate::ops::{Args, Built, Registry, op};
use crate::value::{Host, HostData, Value};
use crate::{BuildError, OpError};

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    r.add_in(DOMAIN, "LabelEncoder", 1..=1, 1..=1, classes_encoder);
    r.add_in(DOMAIN, "LabelEncoder", 2.., 1..=1, label_encoder);
    r.add_in(DOMAIN, "CategoryMapper", 1.., 1..=1, category_mapper);
    r.add_in(DOMAIN, "OneHotEncoder", 1.., 1..=1, one_hot);
    r.add_in(DOMAIN, "ZipMap", 1.., 1..=1, zip_map);
}

/// An element as a key: floats by their bits, so that NaN is found too.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Key {
    Int(i64),
    Float(u64),
    Text(Bytes),
}

impl Key {
    fn float(v: f64) -> Self {
        let one_of_its_kind = if v.is_nan() { f64::NAN } else { v + 0.0 };
        Self::Float(one_of_its_kind.to_bits())
    }
}

fn keys_of(host: &Host) -> Box<dyn Iterator<Item = Key> + '_> {
    match host.data() {
        HostData::Int(values) => Box::new(values.iter().map(|&v| Key::Int(v))),
        HostData::Float(values) => Box::new(values.iter().map(|&v| Key::float(v))),
        HostData::Text(values) => Box::new(values.iter().map(|v| Key::Text(v.clone()))),
    }
}

/// Finds elements among keys, and gives the values at their places.
struct Mapping {
    keys: DType,
    places: HashMap<Key, usize>,
    /// Of rank 1: one for each key, and the default behind them.
    values: Host,
}

impl Mapping {
    fn new(keys: &Host, values: &Host, default: &Host) -> Result<Self, BuildError> {
        if keys.elements() != values.elements() || default.elements() != 1 {
            let reason = "keys and values are not equally many";
            return Err(BuildError::Value { name: "keys_*", reason });
        }
        if values.dtype() != default.dtype() {
            let reason = "it is not of the values' type";
            return Err(BuildError::Value { name: "default_*", reason });
        }
        let count = values.elements();
        let values = Host::join(values.dtype(), vec![count + 1], 0, &[values, default]);
        // Of two equal keys the second counts.
        let places = keys_of(keys).zip(0..count).collect();
        Ok(Self { keys: keys.dtype(), places, values })
    }

    fn apply<B: Kernels>(&self, ctx: &Context<B>, x: &Value<B>) -> Result<Value<B>, OpError> {
        let x = x.to_host(ctx)?;
        if x.dtype() != self.keys {
            return Err(OpError::DTypes { left: x.dtype(), right: self.keys });
        }
        ctx.admit(self.values.dtype(), x.dims())?;
        let default = self.values.elements().saturating_sub(1);
        let places = keys_of(&x).map(|key| self.places.get(&key).copied().unwrap_or(default));
        placed(ctx, self.values.pick(x.dims().to_vec(), places))
    }
}

fn mapped<B: Kernels>(mapping: Mapping) -> Built<B> {
    op(move |ctx, mut inputs| Ok(vec![mapping.apply(ctx, &inputs.take(0)?)?]))
}

fn int_list(values: &[i64]) -> Host {
    Host::ints(DType::I64, vec![values.len()], values.to_vec())
}

fn float_list(values: &[f32]) -> Host {
    let values: Vec<f64> = values.iter().map(|&v| v.into()).collect();
    Host::floats(DType::F32, vec![values.len()], values)
}

fn text_list(values: &[Bytes]) -> Host {
    Host::text(vec![values.len()], values.to_vec())
}

fn default_text<B: Kernels>(args: &Args<'_, B>) -> Result<Host, BuildError> {
    let text = args.string("default_string", "_Unused")?;
    Ok(Host::text(vec![1], vec![Bytes::copy_from_slice(text.as_bytes())]))
}

/// Two maps between strings and integers; the operand's type says which one is used.
fn both_ways<B: Kernels>(args: &Args<'_, B>, texts: &Host, ints: &Host) -> Built<B> {
    let default = int_list(&[args.int("default_int64", -1)?]);
    let to_int = Mapping::new(texts, ints, &default)?;
    let to_text = Mapping::new(ints, texts, &default_text(args)?)?;
    op(move |ctx, mut inputs| {
        let x = inputs.take(0)?;
        let mapping = if x.dtype() == DType::Bytes { &to_int } else { &to_text };
        Ok(vec![mapping.apply(ctx, &x)?])
    })
}

/// The first version: a class is its place in a list of strings.
fn classes_encoder<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let name = "classes_strings";
    let classes = args.texts(name)?.ok_or(BuildError::Missing { name })?;
    let places: Vec<i64> = (0..).take(classes.len()).collect();
    both_ways(args, &text_list(classes), &int_list(&places))
}

fn category_mapper<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let missing = |name| BuildError::Missing { name };
    let texts = args.texts("cats_strings")?.ok_or(missing("cats_strings"))?;
    let ints = args.ints("cats_int64s")?.ok_or(missing("cats_int64s"))?;
    both_ways(args, &text_list(texts), &int_list(ints))
}

fn label_encoder<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let list = |ints, floats, texts, tensor, missing| {
        if let Some(tensor) = args.tensor(tensor)? {
            return from_tensor(tensor);
        }
        Ok(match (args.ints(ints)?, args.floats(floats)?, args.texts(texts)?) {
            (Some(values), ..) => int_list(values),
            (_, Some(values), _) => float_list(values),
            (.., Some(values)) => text_list(values),
            _ => return Err(BuildError::Missing { name: missing }),
        })
    };
    let keys = list("keys_int64s", "keys_floats", "keys_strings", "keys_tensor", "keys_*")?;
    let values =
        list("values_int64s", "values_floats", "values_strings", "values_tensor", "values_*")?;
    // Exporters write the defaults of all types.
    let (int, float) = (args.int("default_int64", -1)?, args.float("default_float", -0.)?);
    let text = default_text(args)?;
    let default = match (args.tensor("default_tensor")?, values.data()) {
        (Some(tensor), _) => from_tensor(tensor)?,
        (None, HostData::Int(_)) => Host::ints(values.dtype(), vec![1], vec![int]),
        (None, HostData::Float(_)) => Host::floats(values.dtype(), vec![1], vec![float]),
        (None, HostData::Text(_)) => text,
    };
    mapped(Mapping::new(&keys, &values, &default)?)
}

/// A tensor of an attribute, as one of rank 1.
fn from_tensor(tensor: &Tensor) -> Result<Host, BuildError> {
    let what = "a map of this element type";
    let host = Host::from_tensor(tensor).ok_or(BuildError::Unsupported { what })?;
    let count = host.elements();
    Ok(host.reshaped(vec![count]))
}

/// One more axis, with a one at the category's place.
fn one_hot<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let lenient = args.flag("zeros", true)?;
    let categories = match (args.ints("cats_int64s")?, args.texts("cats_strings")?) {
        (Some(ints), None | Some([])) if !ints.is_empty() => int_list(ints),
        (None | Some([]), Some(texts)) if !texts.is_empty() => text_list(texts),
        _ => return Err(BuildError::Missing { name: "cats_int64s" }),
    };
    let count = categories.elements();
    let places: HashMap<Key, usize> = keys_of(&categories).zip(0..count).collect();
    op(move |ctx, mut inputs| {
        let x = inputs.take(0)?.to_host(ctx)?;
        if (x.dtype() == DType::Bytes) != (categories.dtype() == DType::Bytes) {
            return Err(OpError::DTypes { left: x.dtype(), right: categories.dtype() });
        }
        let dims = [x.dims(), &[count]].concat();
        ctx.admit(DType::F32, &dims)?;
        let x = if x.dtype() == DType::Bytes { x } else { x.cast(DType::I64) };
        let mut y = vec![0f32; x.elements().saturating_mul(count)];
        for (key, row) in keys_of(&x).zip(y.chunks_exact_mut(count)) {
            match places.get(&key).and_then(|&place| row.get_mut(place)) {
                Some(cell) => *cell = 1.,
                None if lenient => {}
                None => return Err(OpError::Unsupported { what: "a category that is not listed" }),
            }
        }
        Ok(vec![output(ctx, &dims, &y)?])
    })
}

/// A list of maps from class to probability is answered as what it is made of:
/// the probabilities, `[rows, classes]`. The signature says the same.
fn zip_map<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let ints = args.ints("classlabels_int64s")?.unwrap_or_default().len();
    let texts = args.texts("classlabels_strings")?.unwrap_or_default().len();
    let classes = ints.max(texts);
    if classes == 0 {
        return Err(BuildError::Missing { name: "classlabels_int64s" });
    }
    op(move |ctx, mut inputs| {
        let x = inputs.take(0)?;
        let [rows, columns] = rows_of(&x.dims())?;
        if columns != classes {
            let what = "columns and classes";
            return Err(OpError::Mismatch { what, left: x.dims(), right: vec![classes] });
        }
        if x.dtype() != DType::F32 {
            let x = x.to_tensor(ctx)?;
            return Ok(vec![output(ctx, &[rows, columns], &singles(&x)?)?]);
        }
        Ok(vec![x.reshape(vec![rows, columns])])
    })
}

#[cfg(test)]
mod tests {
    use ingle_types::Tensor;

    use crate::testing::{Case, f32s, i64s, tensor, texts};

    fn case(operator: &str, version: i64, x: Tensor) -> Case {
        Case::of(operator, [x]).ml(version)
    }

    #[test]
    fn labels_are_mapped_by_lists() {
        let names = texts(&[2, 2], &["b", "a", "c", "b"]);
        case("LabelEncoder", 2, names.clone())
            .strings("keys_strings", &["a", "b"])
            .ints("values_int64s", &[5, 6])
            .gives([i64s(&[2, 2], &[6, 5, -1, 6])]);
        case("LabelEncoder", 2, names.clone())
            .strings("keys_strings", &["a", "b"])
            .floats("values_floats", &[0.5, 1.5])
            .float("default_float", 9.)
            .gives([f32s(&[2, 2], &[1.5, 0.5, 9., 1.5])]);
        case("LabelEncoder", 2, f32s(&[4], &[f32::NAN, -0., 2., 7.]))
            .floats("keys_floats", &[f32::NAN, 0., 2.])
            .strings("values_strings", &["none", "zero", "two"])
            .gives([texts(&[4], &["none", "zero", "two", "_Unused"])]);
        case("LabelEncoder", 2, i64s(&[2], &[1, 2]))
            .ints("keys_int64s", &[1, 2, 1])
            .ints("values_int64s", &[5, 6, 7])
            .gives([i64s(&[2], &[7, 6])]);
        case("LabelEncoder", 2, names)
            .ints("keys_int64s", &[1])
            .ints("values_int64s", &[5])
            .fails("do not go together");
    }

    #[test]
    fn labels_are_mapped_by_tensors() {
        let case = case("LabelEncoder", 4, texts(&[2], &["a", "d"]))
            .tensor("keys_tensor", &texts(&[2], &["a", "b"]));
        case.clone()
            .tensor("values_tensor", &tensor::<i16>(&[2], &[1, 2]))
            .tensor("default_tensor", &tensor::<i16>(&[1], &[42]))
            .gives([tensor::<i16>(&[2], &[1, 42])]);
        case.clone()
            .tensor("values_tensor", &tensor::<f64>(&[2], &[0.1, 2.]))
            .gives([tensor::<f64>(&[2], &[0.1, -0.])]);
        case.clone()
            .tensor("values_tensor", &tensor::<i16>(&[2], &[1, 2]))
            .tensor("default_tensor", &i64s(&[1], &[42]))
            .fails("not of the values' type");
        case.clone().ints("values_int64s", &[1]).fails("not equally many");
        case.fails("values_*");
    }

    #[test]
    fn the_first_encoder_counts_classes() {
        case("LabelEncoder", 1, texts(&[3], &["a", "b", "c"]))
            .strings("classes_strings", &["a", "c"])
            .gives([i64s(&[3], &[0, -1, 1])]);
        case("LabelEncoder", 1, i64s(&[3], &[0, 1, 2]))
            .strings("classes_strings", &["a", "c"])
            .gives([texts(&[3], &["a", "c", "_Unused"])]);
        case("LabelEncoder", 1, i64s(&[1], &[0])).fails("is missing");
    }

    #[test]
    fn categories_are_mapped_both_ways() {
        let mapper = |x| {
            case("CategoryMapper", 1, x)
                .strings("cats_strings", &["a", "b"])
                .ints("cats_int64s", &[10, 20])
        };
        mapper(texts(&[2], &["b", "z"])).gives([i64s(&[2], &[20, -1])]);
        mapper(i64s(&[2], &[10, 7]))
            .string("default_string", "?")
            .gives([texts(&[2], &["a", "?"])]);
        mapper(f32s(&[1], &[10.])).fails("do not go together");
        case("CategoryMapper", 1, i64s(&[1], &[1])).fails("is missing");
    }

    #[test]
    fn categories_become_ones() {
        let cats = |x| case("OneHotEncoder", 1, x).ints("cats_int64s", &[1, 2]);
        cats(f32s(&[3], &[1.7, 2., 5.])).gives([f32s(&[3, 2], &[1., 0., 0., 1., 0., 0.])]);
        cats(i64s(&[1, 1], &[2])).gives([f32s(&[1, 1, 2], &[0., 1.])]);
        cats(i64s(&[1], &[3])).int("zeros", 0).fails("a category that is not listed");
        cats(texts(&[1], &["a"])).fails("do not go together");
        case("OneHotEncoder", 1, texts(&[2], &["b", ""]))
            .strings("cats_strings", &["a", "b"])
            .gives([f32s(&[2, 2], &[0., 1., 0., 0.])]);
        case("OneHotEncoder", 1, i64s(&[1], &[3])).fails("is missing");
    }

    #[test]
    fn maps_are_their_probabilities() {
        let x = f32s(&[1, 2], &[0.25, 0.75]);
        let zip = || case("ZipMap", 1, x.clone());
        zip().strings("classlabels_strings", &["a", "b"]).gives([x.clone()]);
        zip().ints("classlabels_int64s", &[1, 2, 3]).fails("columns and classes");
        zip().fails("is missing");
    }
}
