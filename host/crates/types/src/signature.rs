use std::collections::BTreeMap;
use std::fmt;

use crate::shape::fmt_dims;
use crate::{DType, Tensor};

/// One dimension of a [`TensorSpec`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dim {
    Any,
    Fixed(usize),
}

impl Dim {
    pub fn accepts(self, size: usize) -> bool {
        match self {
            Self::Any => true,
            Self::Fixed(fixed) => fixed == size,
        }
    }

    /// -1 for any, as the protocols write it.
    pub fn number(self) -> i64 {
        match self {
            Self::Any => -1,
            Self::Fixed(size) => i64::try_from(size).unwrap_or(i64::MAX),
        }
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number().fmt(f)
    }
}

/// What a named tensor must look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    pub name: String,
    pub dtype: DType,
    /// `None` = the rank is not known.
    pub shape: Option<Vec<Dim>>,
    /// An input that a request may leave out.
    pub optional: bool,
}

impl TensorSpec {
    pub fn new(name: impl Into<String>, dtype: DType, shape: Vec<Dim>) -> Self {
        Self { name: name.into(), dtype, shape: Some(shape), optional: false }
    }

    /// # Errors
    /// Names the tensor, and the expected and the given dtype or shape.
    pub fn check(&self, tensor: &Tensor) -> Result<(), SignatureError> {
        if tensor.dtype() != self.dtype {
            return Err(SignatureError::DType {
                name: self.name.clone(),
                expected: self.dtype,
                given: tensor.dtype(),
            });
        }
        let Some(shape) = &self.shape else { return Ok(()) };
        let fits = shape.len() == tensor.dims().len()
            && shape.iter().zip(tensor.dims()).all(|(dim, &size)| dim.accepts(size));
        if fits {
            return Ok(());
        }
        Err(SignatureError::Shape {
            name: self.name.clone(),
            expected: self.shape_text(),
            given: tensor.shape().to_string(),
        })
    }

    /// `[-1,3,224,224]`, or `unknown rank`.
    pub fn shape_text(&self) -> String {
        struct Dims<'a>(&'a [Dim]);
        impl fmt::Display for Dims<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt_dims(f, self.0)
            }
        }
        self.shape.as_ref().map_or_else(|| "unknown rank".into(), |dims| Dims(dims).to_string())
    }
}

/// What kind of call a signature answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Method {
    #[default]
    Predict,
}

impl Method {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Predict => "tensorflow/serving/predict",
        }
    }
}

/// Named, typed inputs and outputs of a servable.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Signature {
    pub method: Method,
    pub inputs: Vec<TensorSpec>,
    pub outputs: Vec<TensorSpec>,
}

impl Signature {
    pub fn input(&self, name: &str) -> Option<&TensorSpec> {
        self.inputs.iter().find(|spec| spec.name == name)
    }

    pub fn output(&self, name: &str) -> Option<&TensorSpec> {
        self.outputs.iter().find(|spec| spec.name == name)
    }

    /// Checks the names alone, whatever they stand for; dtypes and shapes are
    /// [`TensorSpec::check`]'s.
    ///
    /// # Errors
    /// In TensorFlow Serving's words, where an input that may be left out is one with a
    /// default.
    pub fn check_names<T>(&self, inputs: &BTreeMap<String, T>) -> Result<(), SignatureError> {
        let missing: Vec<_> = self
            .inputs
            .iter()
            .filter(|spec| !spec.optional && !inputs.contains_key(&spec.name))
            .map(|spec| spec.name.as_str())
            .collect();
        let extra: Vec<_> =
            inputs.keys().map(String::as_str).filter(|name| self.input(name).is_none()).collect();
        if missing.is_empty() && extra.is_empty() {
            return Ok(());
        }
        let given_names = join(inputs.keys().map(String::as_str));
        let expected_names = join(self.inputs.iter().map(|spec| spec.name.as_str()));
        let required = self.inputs.iter().filter(|spec| !spec.optional).count();
        if !(required..=self.inputs.len()).contains(&inputs.len()) {
            return Err(SignatureError::Count {
                given: inputs.len(),
                expected: self.inputs.len(),
                given_names,
                expected_names,
                extra: join(extra.into_iter()),
                missing: join(missing.into_iter()),
            });
        }
        match missing.first() {
            Some(name) => {
                let optional = self.inputs.iter().filter(|spec| spec.optional);
                Err(SignatureError::Alias {
                    name: (*name).to_owned(),
                    expected: expected_names,
                    optional: join(optional.map(|spec| spec.name.as_str())),
                })
            }
            None => {
                let used = inputs.keys().map(String::as_str).filter(|name| !extra.contains(name));
                Err(SignatureError::Extra { used: join(used), given: given_names })
            }
        }
    }

    /// Which outputs to answer with: all, where the filter is empty.
    ///
    /// # Errors
    /// For a name that is unknown or repeated.
    pub fn check_output_filter(&self, filter: &[String]) -> Result<(), SignatureError> {
        for (i, name) in filter.iter().enumerate() {
            if self.output(name).is_none() {
                let expected = join(self.outputs.iter().map(|spec| spec.name.as_str()));
                return Err(SignatureError::UnknownOutput { name: name.clone(), expected });
            }
            if filter.iter().take(i).any(|earlier| earlier == name) {
                return Err(SignatureError::DuplicateOutput { name: name.clone() });
            }
        }
        Ok(())
    }
}

fn join<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut names: Vec<_> = names.collect();
    names.sort_unstable();
    names.join(",")
}

/// How a request can fail to fit a signature. All are the client's to mend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    #[error(
        "input size does not match signature: {given}!={expected} len({{{given_names}}}) != len({{{expected_names}}}). Sent extra: {{{extra}}}. Missing but required: {{{missing}}}."
    )]
    Count {
        given: usize,
        expected: usize,
        given_names: String,
        expected_names: String,
        extra: String,
        missing: String,
    },
    #[error(
        "Signature input alias: {name} not found in request and no default value provided. Inputs expected to be in the request {{{expected}}}, or default input alias set: {optional}"
    )]
    Alias { name: String, expected: String, optional: String },
    #[error("Inputs contains invalid name. Used request inputs: {used}, request input: {given}")]
    Extra { used: String, given: String },
    #[error("input \"{name}\": expects {expected} but {given} is provided")]
    DType { name: String, expected: DType, given: DType },
    #[error("input \"{name}\": expects shape {expected} but {given} is provided")]
    Shape { name: String, expected: String, given: String },
    #[error(
        "output tensor alias not found in signature: {name} Outputs expected to be in the set {{{expected}}}."
    )]
    UnknownOutput { name: String, expected: String },
    #[error("duplicate output tensor alias: {name}")]
    DuplicateOutput { name: String },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TensorMap;

    fn signature() -> Signature {
        let spec = |name: &str| TensorSpec::new(name, DType::F32, vec![Dim::Any, Dim::Fixed(2)]);
        Signature {
            inputs: vec![spec("a"), spec("b")],
            outputs: vec![spec("y")],
            ..Signature::default()
        }
    }

    fn inputs(names: &[&str]) -> TensorMap {
        let t = Tensor::from_slice(&[1, 2], &[1f32, 2.]).unwrap();
        names.iter().map(|n| ((*n).to_owned(), t.clone())).collect()
    }

    #[test]
    fn names_are_checked_in_tensorflow_servings_words() {
        let s = signature();
        assert_eq!(s.check_names(&inputs(&["a", "b"])), Ok(()));
        assert_eq!(
            s.check_names(&inputs(&["a"])).unwrap_err().to_string(),
            "input size does not match signature: 1!=2 len({a}) != len({a,b}). Sent extra: {}. Missing but required: {b}."
        );
        let wrong = s.check_names(&inputs(&["a", "c"])).unwrap_err().to_string();
        assert!(wrong.starts_with("Signature input alias: b not found in request"), "{wrong}");
    }

    #[test]
    fn an_input_that_may_be_left_out_makes_room_but_not_for_another() {
        let mut s = signature();
        s.inputs.push(TensorSpec { optional: true, ..s.inputs[0].clone() });
        s.inputs[2].name = "c".into();
        let refused = |names: &[&str]| s.check_names(&inputs(names)).unwrap_err().to_string();
        assert_eq!(s.check_names(&inputs(&["a", "b"])), Ok(()));
        assert_eq!(s.check_names(&inputs(&["a", "b", "c"])), Ok(()));
        assert_eq!(
            refused(&["a", "b", "d"]),
            "Inputs contains invalid name. Used request inputs: a,b, request input: a,b,d"
        );
        assert_eq!(
            refused(&["a", "c"]),
            "Signature input alias: b not found in request and no default value provided. Inputs expected to be in the request {a,b,c}, or default input alias set: c"
        );
        assert!(refused(&["a"]).starts_with("input size does not match signature: 1!=3 "));
        let most = refused(&["a", "b", "c", "d"]);
        assert!(most.starts_with("input size does not match signature: 4!=3 "), "{most}");
    }

    #[test]
    fn a_wrong_dtype_or_shape_names_both_sides() {
        let s = signature();
        let spec = s.input("a").unwrap();
        let ints = Tensor::from_slice(&[1, 2], &[1i32, 2]).unwrap();
        assert_eq!(
            spec.check(&ints).unwrap_err().to_string(),
            "input \"a\": expects float but int32 is provided"
        );
        let wide = Tensor::from_slice(&[1, 3], &[1f32, 2., 3.]).unwrap();
        assert_eq!(
            spec.check(&wide).unwrap_err().to_string(),
            "input \"a\": expects shape [-1,2] but [1,3] is provided"
        );
    }

    #[test]
    fn an_output_filter_names_each_output_once() {
        let s = signature();
        assert!(s.check_output_filter(&["y".into()]).is_ok());
        assert!(s.check_output_filter(&["y".into(), "y".into()]).is_err());
        assert!(s.check_output_filter(&["z".into()]).is_err());
    }
}
