//! Labels, and what the plugin refuses, in which words.

#![expect(clippy::unwrap_used, reason = "a test")]

use ingle_plugin::{
    Code, DataType, Error, File, InitOptions, Postprocess, RequestContext, Tensor, TensorSpec,
};
use postprocess_softmax::PostprocessSoftmax;

fn file(name: &str, labels: usize) -> File {
    let content: String = (0..labels).map(|class| format!("class {class}\n")).collect();
    File { name: name.into(), content: content.into_bytes() }
}

fn output(name: &str, shape: &[i64]) -> TensorSpec {
    TensorSpec::new(name, DataType::Float32, shape)
}

fn init(
    config: &str,
    model_outputs: Vec<TensorSpec>,
    files: Vec<File>,
) -> Result<PostprocessSoftmax, Error> {
    let config = config.to_string();
    PostprocessSoftmax::init(InitOptions { config, files, model_outputs, ..InitOptions::default() })
}

fn refusal(config: &str, model_outputs: Vec<TensorSpec>, files: Vec<File>) -> String {
    init(config, model_outputs, files).err().unwrap().message
}

fn process(plugin: &mut PostprocessSoftmax, values: &[f32]) -> Result<Vec<Tensor>, Error> {
    let logits = Tensor::dense("y", &[values.len() as u64], values).unwrap();
    plugin.process(&RequestContext::default(), vec![vec![logits]], vec![])
}

#[test]
fn the_only_file_names_the_classes() {
    let mut plugin =
        init(r#"{"top_k": 2}"#, vec![output("y", &[3])], vec![file("l.txt", 3)]).unwrap();
    let names: Vec<_> = plugin.info().public_spec.into_iter().map(|spec| spec.name).collect();
    assert_eq!(names, ["classes", "scores", "indices"]);
    let answer = process(&mut plugin, &[0.0, 2.0, 1.0]).unwrap();
    assert_eq!(answer[0].blobs().unwrap(), [b"class 1", b"class 2"]);
    assert_eq!(&*answer[2].view::<i64>().unwrap(), [1, 2]);
}

#[test]
fn labels_must_be_as_many_as_the_classes() {
    let error = init("{}", vec![output("y", &[3])], vec![file("l.txt", 4)]).err().unwrap();
    assert_eq!(error.code, Code::FailedPrecondition);
    assert_eq!(error.message, "4 labels for the 3 classes of output \"y\"");
    let mut plugin = init("{}", vec![output("y", &[-1])], vec![file("l.txt", 4)]).unwrap();
    assert_eq!(plugin.info().public_spec[0].shape, [4]);
    let error = process(&mut plugin, &[0.0; 3]).unwrap_err();
    assert_eq!(error.message, "4 labels for the 3 classes of output \"y\"");
}

#[test]
fn of_several_files_one_must_be_named() {
    let files = || vec![file("a.txt", 3), file("b.txt", 2)];
    assert_eq!(
        refusal("{}", vec![output("y", &[3])], files()),
        "config key \"labels\": required, as there are 2 files (a.txt, b.txt)"
    );
    assert_eq!(
        refusal(r#"{"labels": "c.txt"}"#, vec![output("y", &[3])], files()),
        "config key \"labels\": \"c.txt\" is not among the files (a.txt, b.txt)"
    );
    assert!(init(r#"{"labels": "b.txt"}"#, vec![output("y", &[2])], files()).is_ok());
}

#[test]
fn of_several_outputs_one_must_be_named() {
    let outputs = || vec![output("x", &[3]), output("y", &[3])];
    assert_eq!(
        refusal("{}", outputs(), vec![]),
        "config key \"input\": required, as the model has 2 outputs (x, y)"
    );
    assert_eq!(
        refusal(r#"{"input": "z"}"#, outputs(), vec![]),
        "config key \"input\": the model has no output \"z\", only: x, y"
    );
    let mut plugin = init(r#"{"input": "y"}"#, outputs(), vec![]).unwrap();
    assert_eq!(process(&mut plugin, &[0.0, 2.0, 1.0]).unwrap()[0].name, "scores");
}

#[test]
fn a_wrong_configuration_names_the_key() {
    let refusal = |config| refusal(config, vec![output("y", &[3])], vec![]);
    assert_eq!(
        refusal(r#"{"topk": 3}"#),
        r#"config key "topk": there is no such key; did you mean "top_k"?"#
    );
    assert_eq!(refusal(r#"{"top_k": 0}"#), r#"config key "top_k": it must be at least 1"#);
    assert_eq!(
        refusal(r#"{"axis": 1}"#),
        r#"config key "axis": 1 is not an axis of output "y" with its 1 dimensions"#
    );
}

#[test]
fn a_model_that_does_not_answer_with_numbers_is_refused() {
    let text = TensorSpec::new("y", DataType::Bytes, &[3]);
    assert_eq!(refusal("{}", vec![text], vec![]), "the model's output \"y\" is bytes, not a float");
}

#[test]
fn a_model_of_unknown_rank_gives_one_row() {
    let mut plugin = init("{}", vec![output("y", &[])], vec![]).unwrap();
    assert_eq!(plugin.info().public_spec[0].shape, [-1]);
    let answer = process(&mut plugin, &[0.0, 2.0, 1.0]).unwrap();
    assert_eq!(&*answer[1].view::<i64>().unwrap(), [1, 2, 0]);
}

#[test]
fn a_nan_is_an_error_that_names_its_class() {
    let mut plugin = init("{}", vec![output("y", &[3])], vec![]).unwrap();
    let error = process(&mut plugin, &[0.0, 1.0, f32::NAN]).unwrap_err();
    assert_eq!(error.code, Code::FailedPrecondition);
    assert_eq!(error.message, "the model's output \"y\" is NaN for class 2");
}

#[test]
fn several_examples_of_one_are_refused() {
    let mut plugin = init("{}", vec![output("y", &[3])], vec![]).unwrap();
    let error =
        plugin.process(&RequestContext::default(), vec![vec![], vec![]], vec![]).unwrap_err();
    assert_eq!(error.message, "the preprocessor made 2 examples of one, this plugin takes one");
}

#[test]
fn an_output_that_is_not_what_it_says_is_refused() {
    let mut plugin = init("{}", vec![output("y", &[-1, 3])], vec![]).unwrap();
    let good = Tensor::dense("y", &[1, 3], &[0.0_f32; 3]).unwrap();
    for shape in [vec![3], vec![2, 3], vec![0, 3], vec![u64::MAX, u64::MAX], vec![1 << 32, 1 << 32]]
    {
        let bad = Tensor { shape, ..good.clone() };
        let answer = plugin.process(&RequestContext::default(), vec![vec![bad]], vec![]);
        assert_eq!(answer.unwrap_err().code, Code::FailedPrecondition);
    }
    let error = plugin.process(&RequestContext::default(), vec![vec![]], vec![]).unwrap_err();
    assert_eq!(error.message, "the model gave no output \"y\"");
}
