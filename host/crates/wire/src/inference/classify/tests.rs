use ingle_types::{DType, Dim, Shape};

use super::*;

fn of(outputs: &[(&str, DType, usize)]) -> Result<Classifier, ServeError> {
    let spec = |&(name, dtype, rank): &(&str, DType, usize)| {
        TensorSpec::new(name, dtype, vec![Dim::Any; rank])
    };
    let outputs = outputs.iter().map(spec).collect();
    Classifier::of(&Signature { outputs, ..Signature::default() })
}

fn classifier(classes: Option<&str>, scores: Option<&str>) -> Classifier {
    Classifier { classes: classes.map(str::to_owned), scores: scores.map(str::to_owned) }
}

#[test]
fn the_outputs_are_named_or_the_only_ones_of_their_kind() {
    let (f32s, i64s, text) = (DType::F32, DType::I64, DType::Bytes);
    let table = [
        (vec![("scores", f32s, 2)], classifier(None, Some("scores"))),
        (vec![("classes", text, 2)], classifier(Some("classes"), None)),
        (
            vec![("classes", text, 2), ("indices", i64s, 2), ("scores", f32s, 2)],
            classifier(Some("classes"), Some("scores")),
        ),
        (vec![("logits", f32s, 2)], classifier(None, Some("logits"))),
        (
            vec![("label", i64s, 1), ("probabilities", f32s, 2)],
            classifier(Some("label"), Some("probabilities")),
        ),
        (vec![("label", text, 1), ("map", f32s, 4)], classifier(Some("label"), None)),
    ];
    for (outputs, expected) in table {
        assert_eq!(of(&outputs).unwrap(), expected, "{outputs:?}");
    }
    let (one, two) = (
        "Expected classification signature outputs to contain at least one of \"classes\" or \"scores\".",
        "Expected one or two output Tensors, found ",
    );
    for (outputs, code, text) in [
        (vec![], Code::InvalidArgument, two),
        (vec![("map", f32s, 4)], Code::FailedPrecondition, one),
        (vec![("a", f32s, 2), ("b", f32s, 2)], Code::FailedPrecondition, one),
        (vec![("p", f32s, 2), ("a", i64s, 2), ("b", text, 1)], Code::InvalidArgument, two),
    ] {
        let error = of(&outputs).unwrap_err();
        assert_eq!(error.code(), code, "{outputs:?}");
        assert!(error.message().starts_with(text), "{}", error.message());
    }
}

fn strings(dims: &[usize], values: &[&'static str]) -> Tensor {
    let blobs = values.iter().map(|v| bytes::Bytes::from_static(v.as_bytes())).collect();
    Tensor::blobs(Shape::new(dims).unwrap(), blobs).unwrap()
}

fn floats32(dims: &[usize], values: &[f32]) -> Tensor {
    Tensor::from_slice(dims, values).unwrap()
}

/// The classes of each example, or the message.
fn answer(
    classes: Option<Tensor>,
    scores: Option<Tensor>,
    examples: usize,
) -> Result<Vec<Vec<(String, f32)>>, String> {
    let method = classifier(classes.as_ref().map(|_| "c"), scores.as_ref().map(|_| "s"));
    let classes = classes.map(|tensor| ("c".to_owned(), tensor));
    let outputs = classes.into_iter().chain(scores.map(|tensor| ("s".to_owned(), tensor)));
    let result = method.answer(&outputs.collect(), examples).map_err(|e| e.message().to_owned())?;
    let row = |row: pb::Classifications| {
        row.classes.into_iter().map(|class| (class.label, class.score)).collect()
    };
    Ok(result.classifications.into_iter().map(row).collect())
}

fn row(classes: &[(&str, f32)]) -> Vec<(String, f32)> {
    classes.iter().map(|(label, score)| ((*label).to_owned(), *score)).collect()
}

#[test]
fn classes_have_labels_and_scores() {
    let names = || strings(&[2, 2], &["a", "b", "b", "a"]);
    let scores = || floats32(&[2, 2], &[0.75, 0.25, 0.5, 0.5]);
    assert_eq!(
        answer(Some(names()), Some(scores()), 2),
        Ok(vec![row(&[("a", 0.75), ("b", 0.25)]), row(&[("b", 0.5), ("a", 0.5)])])
    );
    assert_eq!(
        answer(None, Some(scores()), 2),
        Ok(vec![row(&[("", 0.75), ("", 0.25)]), row(&[("", 0.5), ("", 0.5)])])
    );
    assert_eq!(
        answer(Some(names()), None, 2),
        Ok(vec![row(&[("a", 0.0), ("b", 0.0)]), row(&[("b", 0.0), ("a", 0.0)])])
    );
    assert_eq!(
        answer(Some(names().rows(0, 1).unwrap()), None, 1),
        Ok(vec![row(&[("a", 0.0), ("b", 0.0)])])
    );
    assert_eq!(
        answer(None, Some(floats32(&[2], &[0.5, 1.5])), 2),
        Ok(vec![row(&[("", 0.5)]), row(&[("", 1.5)])])
    );
    assert_eq!(answer(None, Some(floats32(&[1, 0], &[])), 1), Ok(vec![vec![]]));
}

#[test]
fn the_label_of_an_example_goes_to_its_greatest_score() {
    let labels = Tensor::from_slice(&[2], &[-7i64, 3]).unwrap();
    let scores = floats32(&[2, 3], &[0.1, 0.7, 0.2, 0.5, 0.5, f32::NAN]);
    let found = answer(Some(labels.clone()), Some(scores), 2).unwrap();
    assert_eq!(found[0], row(&[("", 0.1), ("-7", 0.7), ("", 0.2)]));
    assert_eq!(found[1][..2], row(&[("3", 0.5), ("", 0.5)]));
    let single = floats32(&[2], &[0.25, 0.5]);
    assert_eq!(
        answer(Some(labels), Some(single), 2),
        Ok(vec![row(&[("-7", 0.25)]), row(&[("3", 0.5)])])
    );
}

#[test]
fn outputs_of_another_form_are_refused_in_tensorflow_servings_words() {
    let error = |text: &str| Err(text.to_owned());
    let scores = |dims: &[usize]| floats32(dims, &vec![0.5; dims.iter().product()]);
    assert_eq!(
        answer(None, Some(scores(&[1, 2, 2])), 1),
        error("Expected Tensor shape: [batch_size num_classes] but got [1,2,2]")
    );
    assert_eq!(
        answer(None, Some(scores(&[])), 1),
        error("Expected Tensor shape: [batch_size num_classes] but got []")
    );
    assert_eq!(
        answer(None, Some(Tensor::from_slice(&[1, 1], &[1i32]).unwrap()), 1),
        error("Expected scores Tensor of DT_FLOAT. Got: DT_INT32")
    );
    assert_eq!(
        answer(Some(scores(&[1, 1])), None, 1),
        error("Expected classes Tensor of DT_STRING. Got: DT_FLOAT")
    );
    assert_eq!(
        answer(None, Some(scores(&[3, 1])), 2),
        error("Expected scores output batch size of 2. Got: 3")
    );
    assert_eq!(
        answer(Some(strings(&[1, 2], &["a", "b"])), Some(scores(&[1, 3])), 1),
        error("Tensors class and score should match in dim_size(1). Got 2 vs. 3")
    );
}
