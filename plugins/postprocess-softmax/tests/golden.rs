//! The logits of `golden/cases.json`, against what numpy makes of them.

#![expect(clippy::unwrap_used, reason = "a test")]

use half::{bf16, f16};
use ingle_plugin::{InitOptions, Postprocess, RequestContext, Tensor, TensorSpec};
use postprocess_softmax::PostprocessSoftmax;
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Case {
    name: String,
    config: Value,
    dtype: String,
    shape: Vec<u64>,
    values: Vec<f64>,
    answer_shape: Vec<u64>,
    indices: Vec<i64>,
    scores: Vec<f32>,
}

fn logits(case: &Case) -> Tensor {
    let (shape, values) = (&case.shape, case.values.iter());
    match case.dtype.as_str() {
        "float64" => Tensor::dense("y", shape, &case.values),
        "float16" => {
            Tensor::dense("y", shape, &values.map(|&v| f16::from_f64(v)).collect::<Vec<_>>())
        }
        "bfloat16" => {
            Tensor::dense("y", shape, &values.map(|&v| bf16::from_f64(v)).collect::<Vec<_>>())
        }
        _ => Tensor::dense("y", shape, &values.map(|&v| v as f32).collect::<Vec<_>>()),
    }
    .unwrap()
}

#[test]
fn every_row_is_ranked_as_numpy_ranks_it() {
    let cases: Vec<Case> = serde_json::from_slice(include_bytes!("golden/cases.json")).unwrap();
    for case in cases {
        let logits = logits(&case);
        let shape: Vec<i64> = case.shape.iter().map(|&n| n as i64).collect();
        let options = InitOptions {
            config: case.config.to_string(),
            model_outputs: vec![TensorSpec::new("y", logits.data_type, &shape)],
            ..InitOptions::default()
        };
        let mut plugin = PostprocessSoftmax::init(options).unwrap();
        let spec = plugin.info().public_spec;
        let answer =
            plugin.process(&RequestContext::default(), vec![vec![logits]], vec![]).unwrap();
        let [scores, indices] = <[_; 2]>::try_from(answer).unwrap();
        for (spec, tensor) in spec.iter().zip([&scores, &indices]) {
            assert_eq!(spec.name, tensor.name, "{}", case.name);
            assert_eq!(spec.data_type, tensor.data_type, "{}", case.name);
            assert_eq!(tensor.shape, case.answer_shape, "{}", case.name);
            assert!(
                spec.shape.iter().eq(&case
                    .answer_shape
                    .iter()
                    .map(|&n| n as i64)
                    .collect::<Vec<_>>())
            );
        }
        assert_eq!(&*indices.view::<i64>().unwrap(), case.indices, "{}", case.name);
        for (made, wanted) in scores.view::<f32>().unwrap().iter().zip(&case.scores) {
            assert!((made - wanted).abs() <= 1e-6, "{}: {made} is not {wanted}", case.name);
        }
    }
}
