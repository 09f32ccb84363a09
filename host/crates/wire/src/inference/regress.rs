use ingle_types::{Code, ServeError, Signature, Stage, TensorMap};

use super::elements::{floats, is_float};
use super::{Method, output, output_names, wrong_output};
use crate::proto::tensorflow::serving as pb;
use crate::tensor_proto::data_type;

const OUTPUTS: &str = "outputs";

/// Regression by a signature with the output `outputs`, as TensorFlow Serving names
/// it, or else by its only output of floats: `[batch]` or `[batch, 1]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Regressor {
    output: String,
}

impl Regressor {
    /// # Errors
    /// In TensorFlow Serving's words and with its codes, where the signature has no
    /// such output, or more than one to choose from.
    pub(crate) fn of(signature: &Signature) -> Result<Self, ServeError> {
        if signature.output(OUTPUTS).is_some() {
            return Ok(Self { output: OUTPUTS.to_owned() });
        }
        let mut floats = signature.outputs.iter().filter(|spec| is_float(spec.dtype));
        if let (Some(only), None) = (floats.next(), floats.next()) {
            return Ok(Self { output: only.name.clone() });
        }
        let names = output_names(signature);
        if signature.outputs.len() == 1 {
            let message = format!(
                "No regression outputs found in SignatureDef: none is named \"{OUTPUTS}\" or has floats: {names}"
            );
            return Err(ServeError::new(Code::FailedPrecondition, Stage::Route, message));
        }
        let message = format!(
            "Expected one output Tensor. None is named \"{OUTPUTS}\" or is the only one of floats: {names}"
        );
        Err(ServeError::invalid(Stage::Route, message))
    }
}

impl Method for Regressor {
    type Answer = pb::RegressionResult;

    fn outputs(&self) -> Vec<String> {
        vec![self.output.clone()]
    }

    fn answer(&self, outputs: &TensorMap, examples: usize) -> Result<Self::Answer, ServeError> {
        let tensor = output(outputs, &self.output)?;
        let ([batch] | [batch, 1]) = *tensor.dims() else {
            return Err(wrong_output(format!(
                "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got {}",
                tensor.shape()
            )));
        };
        if batch != examples {
            return Err(wrong_output(format!(
                "Input batch size did not match output batch size: {examples} vs. {batch}"
            )));
        }
        let values = floats(tensor).ok_or_else(|| {
            let given = data_type(tensor.dtype()).as_str_name();
            wrong_output(format!("Expected output Tensor of DT_FLOAT.  Got: {given}"))
        })?;
        let regressions = values.into_iter().map(|value| pb::Regression { value }).collect();
        Ok(pb::RegressionResult { regressions })
    }
}

#[cfg(test)]
mod tests {
    use ingle_types::{DType, Dim, Tensor, TensorSpec};

    use super::*;

    fn of(outputs: &[(&str, DType)]) -> Result<String, ServeError> {
        let spec = |&(name, dtype): &(&str, DType)| {
            TensorSpec::new(name, dtype, vec![Dim::Any, Dim::Fixed(1)])
        };
        let outputs = outputs.iter().map(spec).collect();
        Regressor::of(&Signature { outputs, ..Signature::default() }).map(|r| r.output)
    }

    #[test]
    fn the_output_is_named_or_the_only_one_of_floats() {
        assert_eq!(of(&[("outputs", DType::F32), ("y", DType::F32)]).unwrap(), "outputs");
        assert_eq!(of(&[("variable", DType::F64)]).unwrap(), "variable");
        assert_eq!(of(&[("y", DType::F32), ("i", DType::I64)]).unwrap(), "y");
        for (outputs, code, text) in [
            (&[][..], Code::InvalidArgument, "Expected one output Tensor."),
            (
                &[("y", DType::F32), ("z", DType::F16)],
                Code::InvalidArgument,
                "Expected one output Tensor.",
            ),
            (
                &[("i", DType::I64)],
                Code::FailedPrecondition,
                "No regression outputs found in SignatureDef: ",
            ),
        ] {
            let error = of(outputs).unwrap_err();
            assert_eq!(error.code(), code);
            assert!(error.message().starts_with(text), "{}", error.message());
        }
    }

    #[test]
    fn there_is_one_float_for_each_example() {
        let regressor = Regressor { output: "y".into() };
        let answer = |tensor: Tensor, examples| {
            let outputs = TensorMap::from([("y".into(), tensor)]);
            let result = regressor.answer(&outputs, examples);
            result
                .map(|r| r.regressions.iter().map(|r| r.value).collect::<Vec<_>>())
                .map_err(|e| e.message().to_owned())
        };
        let floats = |dims: &[usize]| Tensor::from_slice(dims, &[0.5f32, 2.0]).unwrap();
        assert_eq!(answer(floats(&[2]), 2), Ok(vec![0.5, 2.0]));
        assert_eq!(answer(floats(&[2, 1]), 2), Ok(vec![0.5, 2.0]));
        assert_eq!(answer(Tensor::from_slice(&[1], &[0.25f64]).unwrap(), 1), Ok(vec![0.25]));
        let error = |text: &str| Err(text.to_owned());
        assert_eq!(
            answer(floats(&[1, 2]), 1),
            error(
                "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got [1,2]"
            )
        );
        assert_eq!(
            answer(floats(&[2]), 3),
            error("Input batch size did not match output batch size: 3 vs. 2")
        );
        assert_eq!(
            answer(Tensor::from_slice(&[1], &[1i64]).unwrap(), 1),
            error("Expected output Tensor of DT_FLOAT.  Got: DT_INT64")
        );
        let nothing = regressor.answer(&TensorMap::new(), 1).unwrap_err();
        assert_eq!(nothing.code(), Code::Internal);
    }
}
