//! Whole nodes, against ONNX Runtime's answers.

use crate::testing::{Case, f32s, i64s, tensor, texts};

/// x <= 0 leads to node 1, otherwise node 2; and then of a second tree the same.
fn nodes(case: Case) -> Case {
    case.ml(3)
        .ints("nodes_treeids", &[0, 0, 0, 1, 1, 1])
        .ints("nodes_nodeids", &[0, 1, 2, 0, 1, 2])
        .ints("nodes_featureids", &[0, 0, 0, 1, 0, 0])
        .strings("nodes_modes", &["BRANCH_LEQ", "LEAF", "LEAF", "BRANCH_LEQ", "LEAF", "LEAF"])
        .floats("nodes_values", &[0., 0., 0., 1., 0., 0.])
        .ints("nodes_truenodeids", &[1, 0, 0, 1, 0, 0])
        .ints("nodes_falsenodeids", &[2, 0, 0, 2, 0, 0])
        .floats("nodes_hitrates", &[1.; 6])
}

fn x() -> ingle_types::Tensor {
    f32s(&[3, 2], &[0., 1., 1., 1., 1., 2.])
}

fn regressor(x: ingle_types::Tensor, weights: &[f32]) -> Case {
    nodes(Case::of("TreeEnsembleRegressor", [x]))
        .ints("target_treeids", &[0, 0, 1, 1])
        .ints("target_nodeids", &[1, 2, 1, 2])
        .ints("target_ids", &[0, 0, 0, 0])
        .floats("target_weights", weights)
}

#[test]
fn trees_are_aggregated() {
    let case = || regressor(x(), &[1., 2., 10., -20.]);
    case().gives([f32s(&[3, 1], &[11., 12., -18.])]);
    let aggregated = |function: &str, wanted: [f32; 3]| {
        case().string("aggregate_function", function).gives([f32s(&[3, 1], &wanted)]);
    };
    aggregated("AVERAGE", [5.5, 6., -9.]);
    aggregated("MIN", [1., 2., -20.]);
    aggregated("MAX", [10., 10., 2.]);
    case().floats("base_values", &[100.]).gives([f32s(&[3, 1], &[111., 112., 82.])]);
    case().string("aggregate_function", "MODE").fails("no such function");
    case().floats("base_values", &[1., 2.]).fails("not one for each target");
    case().int("n_targets", 0).fails("not a number of targets");
}

#[test]
fn features_of_other_types_walk_too() {
    let weights = [1., 2., 10., -20.];
    regressor(i64s(&[1, 2], &[1, 2]), &weights).gives([f32s(&[1, 1], &[-18.])]);
    regressor(tensor(&[1, 2], &[0., 1. + 1e-12]), &weights).gives([f32s(&[1, 1], &[-19.])]);
    regressor(f32s(&[2], &[0., 1.]), &weights).gives([f32s(&[1, 1], &[11.])]);
    regressor(f32s(&[0, 2], &[]), &weights).gives([f32s(&[0, 1], &[])]);
    regressor(f32s(&[1, 1], &[0.]), &weights).fails("fewer features");
    regressor(texts(&[1, 2], &["a", "b"]), &weights).fails("the features must be");
}

#[test]
fn doubles_come_as_tensors() {
    let splits = tensor(&[3], &[0.1, 0., 0.]);
    let case = |x| {
        Case::of("TreeEnsembleRegressor", [x])
            .ml(3)
            .ints("nodes_treeids", &[0, 0, 0])
            .ints("nodes_nodeids", &[0, 1, 2])
            .ints("nodes_featureids", &[0, 0, 0])
            .strings("nodes_modes", &["BRANCH_LT", "LEAF", "LEAF"])
            .tensor("nodes_values_as_tensor", &splits)
            .ints("nodes_truenodeids", &[1, 0, 0])
            .ints("nodes_falsenodeids", &[2, 0, 0])
            .ints("nodes_missing_value_tracks_true", &[1, 0, 0])
            .ints("target_treeids", &[0, 0])
            .ints("target_nodeids", &[1, 2])
            .ints("target_ids", &[0, 0])
            .tensor("target_weights_as_tensor", &tensor(&[2], &[1., 2.]))
            .tensor("base_values_as_tensor", &tensor(&[1], &[0.5]))
    };
    case(tensor(&[3, 1], &[0.1, 0.1 - 1e-15, f64::NAN])).gives([f32s(&[3, 1], &[2.5, 1.5, 1.5])]);
    case(f32s(&[1, 1], &[0.1])).gives([f32s(&[1, 1], &[2.5])]);
}

fn classifier(classes: &[i64], weights: &[f32]) -> Case {
    nodes(Case::of("TreeEnsembleClassifier", [x()]))
        .ints("class_treeids", &[0, 0, 1, 1])
        .ints("class_nodeids", &[1, 2, 1, 2])
        .ints("class_ids", classes)
        .floats("class_weights", weights)
}

#[test]
fn the_class_with_the_highest_sum_wins() {
    let case = classifier(&[0, 1, 2, 2], &[0.5, 0.7, 0.6, 0.1])
        .strings("classlabels_strings", &["a", "b", "c"]);
    let sums = f32s(&[3, 3], &[0.5, 0., 0.6, 0., 0.7, 0.6, 0., 0.7, 0.1]);
    case.gives([texts(&[3], &["c", "b", "b"]), sums]);
    case.floats("base_values", &[1., 0., -1.]).gives([
        texts(&[3], &["a", "a", "a"]),
        f32s(&[3, 3], &[1.5, 0., -0.4, 1., 0.7, -0.4, 1., 0.7, -0.9]),
    ]);
    // No vote loses against a negative one.
    classifier(&[1, 1, 1, 1], &[-1.; 4])
        .ints("classlabels_int64s", &[7, 8, 9])
        .gives([i64s(&[3], &[8; 3]), f32s(&[3, 3], &[0., -2., 0., 0., -2., 0., 0., -2., 0.])]);
    classifier(&[0, 1, 0, 1], &[0.4, 0.6, 0.1, 0.2])
        .ints("classlabels_int64s", &[7, 8])
        .gives([i64s(&[3], &[7, 8, 8]), f32s(&[3, 2], &[0.5, 0., 0.1, 0.6, 0., 0.8])]);
}

#[test]
fn one_voted_class_decides_between_two() {
    let two = |class: i64, weights: &[f32]| {
        classifier(&[class; 4], weights).ints("classlabels_int64s", &[7, 8])
    };
    let labels = i64s(&[3], &[7, 8, 8]);
    let positive = two(0, &[0.1, 0.4, 0.2, 0.6]);
    positive.gives([labels.clone(), f32s(&[3, 2], &[0.7, 0.3, 0.4, 0.6, 0., 1.])]);
    positive
        .floats("base_values", &[-0.5])
        .gives([i64s(&[3], &[7, 7, 7]), f32s(&[3, 2], &[1.2, -0.2, 0.9, 0.1, 0.5, 0.5])]);
    let mixed = two(0, &[-0.5, 0.4, 0.2, 0.6]);
    mixed.gives([labels.clone(), f32s(&[3, 2], &[0.3, -0.3, -0.6, 0.6, -1., 1.])]);
    mixed.string("post_transform", "LOGISTIC").gives([
        labels.clone(),
        f32s(&[3, 2], &[0.5744425, 0.4255575, 0.3543437, 0.6456563, 0.26894143, 0.7310586]),
    ]);
    two(1, &[0.1, 0.4, 0.2, 0.6]).gives([labels, f32s(&[3, 2], &[0., 0.3, 0., 0.6, 0., 1.])]);
}

#[test]
fn lists_that_lie_are_refused() {
    let weights = [1.; 4];
    let named = |labels: bool| {
        let case = classifier(&[0, 1, 0, 1], &weights);
        if labels { case.ints("classlabels_int64s", &[1, 2]) } else { case }
    };
    named(false).fails("\"classlabels_int64s\" is missing");
    classifier(&[0, 2, 0, 1], &weights).ints("classlabels_int64s", &[1, 2]).fails("no such target");
    classifier(&[0, -1, 0, 1], &weights).ints("classlabels_int64s", &[1, 2]).fails("negative");
    classifier(&[0, 1, 0], &weights).ints("classlabels_int64s", &[1, 2]).fails("not as long");
    let stump = |ids: &[i64], yes: &[i64], no: &[i64], modes: &[&str], features: &[i64]| {
        Case::of("TreeEnsembleRegressor", [x()])
            .ml(1)
            .ints("nodes_treeids", &[0, 0, 0])
            .ints("nodes_nodeids", ids)
            .ints("nodes_featureids", features)
            .strings("nodes_modes", modes)
            .floats("nodes_values", &[0.; 3])
            .ints("nodes_truenodeids", yes)
            .ints("nodes_falsenodeids", no)
    };
    let (ids, modes) = ([0, 1, 2], ["BRANCH_LT", "BRANCH_GT", "LEAF"]);
    stump(&ids, &[1, 2, 0], &[2, 2, 0], &modes, &[0; 3]).gives([f32s(&[3, 1], &[0.; 3])]);
    stump(&ids, &[1, 0, 0], &[2, 2, 0], &modes, &[0; 3]).fails("in a circle");
    stump(&ids, &[1, 2, 0], &[2, 7, 0], &modes, &[0; 3]).fails("leads to no node");
    stump(&ids, &[1, 2], &[2, 2, 0], &modes, &[0; 3]).fails("not as long");
    stump(&[0, 1, 1], &[1, 1, 0], &[1, 1, 0], &modes, &[0; 3]).fails("a node is twice");
    stump(&ids, &[1, 2, 0], &[2, 2, 0], &["LEAF", "LEAF", "TREE"], &[0; 3]).fails("no such mode");
    stump(&ids, &[1, 2, 0], &[2, 2, 0], &modes, &[-1, 0, 0]).fails("negative");
    stump(&ids, &[1, 2, 0], &[2, 2, 0], &modes, &[1 << 30, 0, 0]).fails("fewer features");
}

fn version_5() -> Case {
    Case::of("TreeEnsemble", [f32s(&[3, 1], &[1.2, 3., f32::NAN])])
        .ml(5)
        .int("n_targets", 2)
        .ints("tree_roots", &[0])
        .ints("nodes_featureids", &[0, 0])
        .ints("nodes_truenodeids", &[0, 1])
        .ints("nodes_trueleafs", &[1, 1])
        .ints("nodes_falsenodeids", &[1, 2])
        .ints("nodes_falseleafs", &[0, 1])
        .tensor("nodes_splits", &f32s(&[2], &[0., 1.]))
        .tensor("leaf_weights", &f32s(&[3], &[1., 10., 100.]))
        .ints("leaf_targetids", &[0, 1, 0])
}

#[test]
fn branches_may_ask_for_members() {
    let modes = tensor::<u8>(&[2], &[6, 1]);
    let sets = f32s(&[3], &[3., 4., f32::NAN]);
    let case = version_5().tensor("nodes_modes", &modes);
    let wanted = [100., 0., 1., 0., 100., 0.];
    case.clone().tensor("membership_values", &sets).gives([f32s(&[3, 2], &wanted)]);
    case.clone()
        .tensor("membership_values", &sets)
        .ints("nodes_missing_value_tracks_true", &[0, 1])
        .gives([f32s(&[3, 2], &[100., 0., 1., 0., 0., 10.])]);
    case.fails("not one set for each");
    version_5().tensor("nodes_modes", &tensor::<u8>(&[2], &[0, 7])).fails("no such mode");
}

#[test]
fn version_5_is_checked_too() {
    let modes = tensor::<u8>(&[2], &[0, 1]);
    version_5().fails("\"nodes_modes\" is missing");
    let case = version_5().tensor("nodes_modes", &modes);
    case.clone().int("post_transform", 9).fails("no such transform");
    case.clone().int("aggregate_function", -1).fails("no such function");
    case.clone().tensor("membership_values", &f32s(&[1], &[1.])).fails("not one set for each");
    case.int("post_transform", 1).gives([f32s(&[3, 2], &[1., 0., 1., 0., 1., 0.])]);
}
