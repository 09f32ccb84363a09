//! Between the requests that clients send, which have a batch dimension, and the
//! examples that plugins see, which have none.

use ingle_types::{
    Code, Dim, ServeError, Signature, Stage, Tensor, TensorError, TensorMap, TensorSpec,
};

/// A request's examples.
#[derive(Debug)]
pub(crate) struct Examples {
    pub(crate) inputs: Vec<TensorMap>,
    /// Whether the request had a batch dimension, and so the answer gets one.
    pub(crate) batched: bool,
}

impl Examples {
    /// Cuts `inputs` into examples of `specs`, which have no batch dimension. Inputs
    /// that have none either are one example.
    ///
    /// # Errors
    /// Where the inputs disagree with the specs, or with each other, on the batch.
    pub(crate) fn split(
        specs: &[TensorSpec],
        inputs: &TensorMap,
        limit: usize,
    ) -> Result<Self, ServeError> {
        let named = || specs.iter().filter_map(|s| inputs.get(&s.name).map(|t| (s, t)));
        let single = named().all(|(spec, t)| rank(spec) == Some(t.shape().rank()));
        let examples = if single {
            Self { inputs: vec![inputs.clone()], batched: false }
        } else {
            let count = batch_size(named(), limit)?;
            let example = |i: usize| {
                let row = |(name, t): (&String, &Tensor)| Ok((name.clone(), t.row(i)?));
                inputs.iter().map(row).collect::<Result<TensorMap, TensorError>>()
            };
            let inputs = (0..count)
                .map(example)
                .collect::<Result<_, _>>()
                .map_err(|e| ServeError::invalid(Stage::Decode, e.to_string()))?;
            Self { inputs, batched: true }
        };
        examples.check(specs)?;
        Ok(examples)
    }

    fn check(&self, specs: &[TensorSpec]) -> Result<(), ServeError> {
        let pairs = self
            .inputs
            .iter()
            .flat_map(|example| specs.iter().filter_map(|s| Some((s, example.get(&s.name)?))));
        for (spec, tensor) in pairs {
            // The batch dimension is back in the message, for the client sent one.
            spec.check(tensor).map_err(|e| {
                let hint = if self.batched { " (for each example of the batch)" } else { "" };
                ServeError::invalid(Stage::Decode, format!("{e}{hint}"))
            })?;
        }
        Ok(())
    }
}

fn rank(spec: &TensorSpec) -> Option<usize> {
    spec.shape.as_ref().map(Vec::len)
}

fn batch_size<'a>(
    mut named: impl Iterator<Item = (&'a TensorSpec, &'a Tensor)>,
    limit: usize,
) -> Result<usize, ServeError> {
    let invalid = |message: String| ServeError::invalid(Stage::Decode, message);
    let mut size: Option<(&str, usize)> = None;
    let result = named.try_for_each(|(spec, t)| {
        let Some(&rows) = t.dims().first() else {
            let want = with_batch(spec).shape_text();
            let text = format!("input \"{}\": expects shape {want} but [] is provided", spec.name);
            return Err(invalid(text));
        };
        match size {
            Some((first, n)) if n != rows => Err(invalid(format!(
                "input \"{first}\" has {n} examples but input \"{}\" has {rows}",
                spec.name
            ))),
            _ => {
                size = Some((&spec.name, rows));
                Ok(())
            }
        }
    });
    result?;
    match size {
        Some((_, n)) if n > limit => {
            Err(invalid(format!("{n} examples are over the limit of {limit} in one request")))
        }
        Some((name, 0)) => Err(invalid(format!("input \"{name}\" has no examples"))),
        Some((_, n)) => Ok(n),
        None => Ok(1),
    }
}

/// The spec as clients see it, with a batch dimension of any size.
pub(crate) fn with_batch(spec: &TensorSpec) -> TensorSpec {
    let mut spec = spec.clone();
    if let Some(shape) = &mut spec.shape {
        shape.insert(0, Dim::Any);
    }
    spec
}

/// The spec as plugins see it, without the model's batch dimension.
pub(crate) fn without_batch(spec: &TensorSpec) -> TensorSpec {
    let mut spec = spec.clone();
    if let Some(shape) = &mut spec.shape
        && !shape.is_empty()
    {
        shape.remove(0);
    }
    spec
}

/// Which examples can run together: all, or each alone.
pub(crate) fn can_batch(model: &Signature, examples: &[TensorMap]) -> bool {
    let sized = |spec: &TensorSpec| {
        let first = spec.shape.as_ref().and_then(|shape| shape.first());
        first.is_none_or(|dim| dim.accepts(examples.len()))
    };
    let alike = |a: &TensorMap, b: &TensorMap| {
        a.iter().zip(b).all(|((an, at), (bn, bt))| {
            an == bn && at.shape() == bt.shape() && at.dtype() == bt.dtype()
        })
    };
    let Some((first, rest)) = examples.split_first() else { return true };
    model.inputs.iter().all(sized)
        && rest.iter().all(|other| other.len() == first.len() && alike(first, other))
}

/// Examples of equal shapes become one batch.
pub(crate) fn stack(examples: &[TensorMap]) -> Result<TensorMap, TensorError> {
    let Some(first) = examples.first() else { return Ok(TensorMap::new()) };
    first
        .keys()
        .map(|name| {
            let rows: Vec<_> = examples.iter().filter_map(|e| e.get(name)).cloned().collect();
            Ok((name.clone(), Tensor::stack(&rows)?))
        })
        .collect()
}

/// The rows of a batch's outputs, an entry for each of `count` examples.
///
/// # Errors
/// Where an output's first dimension is not the batch.
pub(crate) fn unstack(outputs: &TensorMap, count: usize) -> Result<Vec<TensorMap>, ServeError> {
    if let Some((name, t)) = outputs.iter().find(|(_, t)| t.dims().first() != Some(&count)) {
        return Err(ServeError::new(
            Code::FailedPrecondition,
            Stage::Run,
            format!(
                "output \"{name}\" has shape {}: its first dimension is not the batch of {count}",
                t.shape()
            ),
        ));
    }
    let row = |i| outputs.iter().map(|(n, t)| Ok((n.clone(), t.row(i)?))).collect();
    (0..count).map(row).collect::<Result<_, TensorError>>().map_err(|e| {
        ServeError::new(Code::Internal, Stage::Run, "an output could not be split").with_source(e)
    })
}

/// The answers to all examples of a request become its answer.
///
/// # Errors
/// Where they differ in shape, which a batch cannot hold.
pub(crate) fn join(mut answers: Vec<TensorMap>, batched: bool) -> Result<TensorMap, ServeError> {
    if !batched {
        return Ok(answers.pop().unwrap_or_default());
    }
    stack(&answers).map_err(|e| {
        let hint = "the answers to these examples differ in shape; send them in separate requests";
        ServeError::new(Code::FailedPrecondition, Stage::Postprocess, format!("{hint}: {e}"))
    })
}

#[cfg(test)]
mod tests {
    use ingle_types::DType;

    use super::*;

    fn specs() -> Vec<TensorSpec> {
        vec![TensorSpec::new("x", DType::F32, vec![Dim::Any, Dim::Fixed(2)])]
    }

    fn inputs(dims: &[usize]) -> TensorMap {
        let n = dims.iter().product();
        TensorMap::from([("x".into(), Tensor::from_slice(dims, &vec![1f32; n]).unwrap())])
    }

    fn error(dims: &[usize]) -> String {
        Examples::split(&specs(), &inputs(dims), 4).unwrap_err().message().to_owned()
    }

    #[test]
    fn a_batch_is_cut_into_its_examples() {
        let examples = Examples::split(&specs(), &inputs(&[3, 5, 2]), 4).unwrap();
        assert!(examples.batched);
        assert_eq!(examples.inputs.len(), 3);
        assert_eq!(examples.inputs[0]["x"].dims(), [5, 2]);
    }

    #[test]
    fn inputs_without_a_batch_dimension_are_one_example() {
        let examples = Examples::split(&specs(), &inputs(&[5, 2]), 4).unwrap();
        assert!(!examples.batched);
        assert_eq!(examples.inputs[0]["x"].dims(), [5, 2]);
    }

    #[test]
    fn what_is_not_a_batch_says_why() {
        assert!(error(&[5, 1, 2]).contains("over the limit of 4"));
        assert!(error(&[0, 1, 2]).contains("no examples"));
        assert!(error(&[2, 1, 3]).contains("expects shape [-1,2] but [1,3]"));
        assert!(error(&[]).contains("expects shape [-1,-1,2] but []"));
    }

    #[test]
    fn inputs_have_to_agree_on_the_batch() {
        let mut specs = specs();
        specs.push(TensorSpec::new("y", DType::F32, vec![]));
        let mut both = inputs(&[3, 1, 2]);
        both.insert("y".into(), Tensor::from_slice(&[2], &[1f32, 2.]).unwrap());
        let message = Examples::split(&specs, &both, 4).unwrap_err().message().to_owned();
        assert!(message.contains("3 examples but input \"y\" has 2"), "{message}");
    }

    #[test]
    fn joining_is_the_inverse_of_splitting() {
        let rows = Examples::split(&specs(), &inputs(&[3, 5, 2]), 4).unwrap().inputs;
        assert_eq!(join(rows.clone(), true).unwrap(), inputs(&[3, 5, 2]));
        assert_eq!(unstack(&inputs(&[3, 5, 2]), 3).unwrap(), rows);
        assert!(unstack(&inputs(&[3, 5, 2]), 2).is_err());
        let mixed = vec![inputs(&[1, 2]), inputs(&[2, 2])];
        assert_eq!(join(mixed, true).unwrap_err().code(), Code::FailedPrecondition);
    }

    #[test]
    fn a_model_of_batch_one_runs_examples_alone() {
        let fixed = Signature {
            inputs: vec![TensorSpec::new("x", DType::F32, vec![Dim::Fixed(1), Dim::Any])],
            ..Signature::default()
        };
        assert!(can_batch(&fixed, &[inputs(&[2])]));
        assert!(!can_batch(&fixed, &[inputs(&[2]), inputs(&[2])]));
        assert!(!can_batch(&Signature::default(), &[inputs(&[2]), inputs(&[3])]));
    }
}
