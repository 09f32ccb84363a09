use std::io;

use bytes::Bytes;
use ingle_types::{Code, DType, Limits, Shape, Tensor, TensorMap};
use prost::Message;

use crate::proto::attribute_proto::AttributeType;
use crate::proto::tensor_proto::DataLocation;
use crate::proto::*;
use crate::testing::{bools, f32s, full_text, i64s, info, initializer, load, model, node};
use crate::{
    DeviceChoice, Engine, ExternalData, ExternalDataError, LoadError, NoExternalData, Optimize,
    RunError,
};

/// y = x + w, where w has a default.
fn addition() -> GraphProto {
    GraphProto {
        node: vec![node("Add", &["x", "w"], &["y"])],
        input: vec![info("x", DType::F32, Some(&[-1, 2])), info("w", DType::F32, Some(&[2]))],
        output: vec![info("y", DType::F32, Some(&[-1, 2]))],
        initializer: vec![initializer("w", &f32s(&[2], &[10., 20.]))],
        ..GraphProto::default()
    }
}

fn map(entries: &[(&str, Tensor)]) -> TensorMap {
    entries.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.clone())).collect()
}

fn refused(model: &ModelProto) -> String {
    full_text(&load(model).unwrap_err())
}

#[test]
fn the_signature_is_the_graphs() {
    let program = load(&model(addition(), 17)).unwrap();
    let signature = program.signature();
    assert_eq!(signature.input("x").unwrap().shape_text(), "[-1,2]");
    assert!(!signature.input("x").unwrap().optional && signature.input("w").unwrap().optional);
    assert_eq!((program.opset(), program.weights_bytes()), (17, 8));
}

#[test]
fn a_value_in_the_request_takes_the_place_of_an_initializer() {
    let program = load(&model(addition(), 17)).unwrap();
    let x = f32s(&[1, 2], &[1., 2.]);
    let y = program.run(&map(&[("x", x.clone())]), &[]).unwrap();
    assert_eq!(y["y"], f32s(&[1, 2], &[11., 22.]));
    let w = f32s(&[2], &[100., 200.]);
    let y = program.run(&map(&[("x", x), ("w", w)]), &[]).unwrap();
    assert_eq!(y["y"], f32s(&[1, 2], &[101., 202.]));
}

#[test]
fn before_ir_4_initializers_are_no_inputs() {
    let program = load(&ModelProto { ir_version: 3, ..model(addition(), 9) }).unwrap();
    assert_eq!(program.signature().inputs.len(), 1);
    let y = program.run(&map(&[("x", f32s(&[1, 2], &[1., 2.]))]), &[]).unwrap();
    assert_eq!(y["y"], f32s(&[1, 2], &[11., 22.]));
}

#[test]
fn batches_of_any_size_run_and_none_too() {
    let program = load(&model(addition(), 17)).unwrap();
    for rows in [0, 1, 3] {
        let x = f32s(&[rows, 2], &vec![0.; rows * 2]);
        let y = program.run(&map(&[("x", x)]), &[]).unwrap();
        assert_eq!(y["y"].dims(), [rows, 2]);
    }
}

#[test]
fn requests_that_do_not_fit_the_signature_name_the_tensor() {
    let program = load(&model(addition(), 17)).unwrap();
    let error = |inputs: &[(&str, Tensor)], outputs: &[String]| {
        program.run(&map(inputs), outputs).unwrap_err()
    };
    let x = f32s(&[1, 2], &[1., 2.]);
    assert!(matches!(error(&[], &[]), RunError::Signature(_)));
    assert!(error(&[("x", i64s(&[1, 2], &[1, 2]))], &[]).to_string().contains("\"x\""));
    let wide = error(&[("x", f32s(&[1, 3], &[1., 2., 3.]))], &[]);
    assert!(wide.to_string().contains("[-1,2]"), "{wide}");
    assert_eq!(wide.code(), Code::InvalidArgument);
    assert!(matches!(error(&[("x", x)], &["z".into()]), RunError::Signature(_)));
}

#[test]
fn only_the_wanted_outputs_are_computed() {
    let graph = GraphProto {
        node: vec![
            node("Relu", &["x"], &["a"]),
            node("MatMul", &["x", "x"], &["fails"]),
            node("Neg", &["a"], &["b"]),
        ],
        input: vec![info("x", DType::F32, None)],
        output: vec![info("fails", DType::F32, None), info("b", DType::F32, None)],
        ..GraphProto::default()
    };
    let program = load(&model(graph, 17)).unwrap();
    let x = map(&[("x", f32s(&[2, 3], &[1.; 6]))]);
    let only = program.run(&x, &["b".into()]).unwrap();
    assert_eq!(only.keys().collect::<Vec<_>>(), ["b"]);
    let error = program.run(&x, &[]).unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.to_string().contains("node \"#1\" (operator MatMul, domain ai.onnx, opset 17)"));
}

#[test]
fn one_value_may_be_read_twice_and_be_an_output_too() {
    let graph = GraphProto {
        node: vec![node("Add", &["x", "x"], &["a"]), node("Mul", &["a", "x"], &["b"])],
        input: vec![info("x", DType::F32, None)],
        output: vec![
            info("b", DType::F32, None),
            info("a", DType::F32, None),
            info("x", DType::F32, None),
        ],
        ..GraphProto::default()
    };
    let x = f32s(&[3, 1], &[1., 2., 3.]);
    let y = load(&model(graph, 17)).unwrap().run(&map(&[("x", x.clone())]), &[]).unwrap();
    assert_eq!((&y["a"], &y["x"]), (&f32s(&[3, 1], &[2., 4., 6.]), &x));
    assert_eq!(y["b"], f32s(&[3, 1], &[2., 8., 18.]));
}

#[test]
fn nodes_may_come_in_any_order() {
    let mut graph = addition();
    graph.node = vec![node("Relu", &["z"], &["y"]), node("Add", &["x", "w"], &["z"])];
    let y = load(&model(graph, 17)).unwrap().run(&map(&[("x", f32s(&[1, 2], &[1., -90.]))]), &[]);
    assert_eq!(y.unwrap()["y"], f32s(&[1, 2], &[11., 0.]));
}

#[test]
fn runs_may_overlap() {
    let program = load(&model(addition(), 17)).unwrap();
    std::thread::scope(|scope| {
        for i in 0..4 {
            let program = &program;
            scope.spawn(move || {
                let x = map(&[("x", f32s(&[1, 2], &[i as f32, 0.]))]);
                let y = program.run(&x, &[]).unwrap();
                assert_eq!(y["y"], f32s(&[1, 2], &[i as f32 + 10., 20.]));
            });
        }
    });
}

#[test]
fn what_is_no_model_is_refused() {
    let engine = Engine::new(DeviceChoice::Cpu).unwrap();
    let load = |bytes: &[u8]| engine.load(bytes, &NoExternalData, &Limits::default()).unwrap_err();
    for bytes in [&b"garbage"[..], &[0xff; 64], &[0x3a, 0xff, 0xff, 0xff, 0xff, 0x0f]] {
        assert!(matches!(load(bytes), LoadError::Decode(_)), "{bytes:?}");
    }
    assert!(matches!(load(b""), LoadError::IrVersion { .. }));
    let graphless = ModelProto { graph: None, ..model(addition(), 17) };
    assert!(matches!(load(&graphless.encode_to_vec()), LoadError::NoGraph));
}

/// Every byte of a small model in turn becomes several others, or the last one.
#[test]
fn damaged_models_are_refused_or_run() {
    let engine = Engine::new(DeviceChoice::Cpu).unwrap();
    let limits = Limits { tensor_bytes: 1 << 20, graph_nodes: 100, ..Limits::default() };
    let good = model(addition(), 17).encode_to_vec();
    let x = map(&[("x", f32s(&[1, 2], &[1., 2.]))]);
    let (mut loaded, mut refused) = (0, 0);
    for place in 0..good.len() {
        let mut damaged: Vec<Vec<u8>> = vec![good[..place].to_vec()];
        for value in [0, 1, 7, 0x7f, 0x80, 0xff, good[place] ^ 0x08, good[place].wrapping_add(1)] {
            let mut bytes = good.clone();
            bytes[place] = value;
            damaged.push(bytes);
        }
        for bytes in damaged {
            match engine.load(&bytes, &NoExternalData, &limits) {
                Ok(program) => {
                    loaded += 1;
                    let panicked = matches!(program.run(&x, &[]), Err(RunError::Panicked { .. }));
                    assert!(!panicked, "{bytes:?}");
                }
                Err(error) => {
                    refused += 1;
                    assert!(!matches!(error, LoadError::Panicked { .. }), "{bytes:?}");
                }
            }
        }
    }
    assert!(loaded > 0 && refused > 0, "{loaded} {refused}");
}

/// Each line: what is done to a good model, and what the refusal must say.
#[test]
fn hostile_models_are_refused_by_name() {
    type Change = fn(&mut ModelProto);
    let graph: fn(&mut ModelProto) -> &mut GraphProto = |m| m.graph.as_mut().unwrap();
    let table: Vec<(Change, &str)> = vec![
        (|m| m.ir_version = 99, "IR version 99"),
        (|m| m.opset_import.clear(), "imports no opset"),
        (|m| m.opset_import[0].version = 99, "opset 99 is not supported"),
        (|m| m.opset_import[0].version = -1, "opset -1 is not supported"),
    ];
    for (change, text) in table {
        let mut hostile = model(addition(), 17);
        change(&mut hostile);
        let error = refused(&hostile);
        assert!(error.contains(text), "{error}");
    }
    type GraphChange = fn(&mut GraphProto);
    let table: Vec<(GraphChange, &str)> = vec![
        (
            |g| g.node[0].op_type = "Frobnicate".into(),
            "operator Frobnicate, domain ai.onnx, opset 17",
        ),
        (|g| g.node[0].op_type = String::new(), "unknown operator"),
        (|g| g.node[0].domain = "com.evil".into(), "domain com.evil"),
        (|g| g.node[0].input[0] = "nowhere".into(), "\"nowhere\", which nothing produces"),
        (|g| g.node[0].input[0] = "y".into(), "part of a cycle"),
        (|g| g.node[0].input[0] = String::new(), "takes 2 to 2"),
        (|g| g.node[0].input.push("x".into()), "takes 2 to 2"),
        (|g| g.node[0].output.push("z".into()), "it has 2 outputs"),
        (|g| g.node[0].output[0] = "x".into(), "\"x\" is defined twice"),
        (|g| g.node.push(node("Relu", &["x"], &["y"])), "\"y\" is defined twice"),
        (|g| g.input.push(info("x", DType::F32, None)), "\"x\" is defined twice"),
        (|g| g.output.push(info("y", DType::F32, None)), "\"y\" is defined twice"),
        (|g| g.initializer.push(g.initializer[0].clone()), "\"w\" is defined twice"),
        (|g| g.output.push(info("z", DType::F32, None)), "graph output \"z\""),
        (|g| g.output[0].r#type = None, "\"y\" is of no declared type"),
        (|g| g.initializer[0].dims = vec![3], "needs 12 bytes but 8 are given"),
        (|g| g.initializer[0].dims = vec![-2], "dimension -2 is negative"),
        (|g| g.initializer[0].dims = vec![i64::MAX, 8], "overflows"),
        (|g| g.initializer[0].dims = vec![1 << 40], "above the limit"),
        (|g| g.initializer[0].data_type = 77, "element type 77"),
        (|g| g.sparse_initializer.push(SparseTensorProto::default()), "sparse"),
        (
            |g| {
                g.node[0].attribute.push(AttributeProto {
                    name: "magic".into(),
                    r#type: AttributeType::Int.into(),
                    ..AttributeProto::default()
                });
            },
            "attribute \"magic\" is not known",
        ),
    ];
    for (change, text) in table {
        let mut hostile = model(addition(), 17);
        change(graph(&mut hostile));
        let error = refused(&hostile);
        assert!(error.contains(text), "{error}");
    }
}

#[test]
fn all_that_is_not_supported_is_named_at_once() {
    let mut graph = addition();
    let mut sequence = info("s", DType::F32, None);
    let kind = type_proto::Value::SequenceType(type_proto::Other {});
    sequence.r#type = Some(TypeProto { value: Some(kind) });
    graph.input.push(sequence);
    graph.node.push(node("Frobnicate", &["x"], &["f"]));
    graph.node.push(node("Defenestrate", &["x"], &["d"]));
    let error = load(&model(graph, 17)).unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented);
    let problems = error.problems();
    let [kind, frobnicate, defenestrate] = &problems[..] else { panic!("{problems:?}") };
    assert!(kind.contains("\"s\" is a sequence"), "{kind}");
    assert!(frobnicate.contains("Frobnicate"), "{frobnicate}");
    assert!(defenestrate.contains("Defenestrate"), "{defenestrate}");
    // What an operator does not support is found when it is built.
    let mut graph = addition();
    graph.node.push(node("Relu", &["x"], &["r", "extra"]));
    graph.node.push(node("Exp", &["x"], &["e", "extra2"]));
    let problems = load(&model(graph, 17)).unwrap_err().problems();
    assert_eq!(problems.len(), 2, "{problems:?}");
}

#[test]
fn a_graph_of_too_many_nodes_is_refused() {
    let limits = Limits { graph_nodes: 0, ..Limits::default() };
    let engine = Engine::new(DeviceChoice::Cpu).unwrap();
    let bytes = model(addition(), 17).encode_to_vec();
    let error = engine.load(&bytes, &NoExternalData, &limits).unwrap_err();
    assert!(matches!(error, LoadError::Nodes { nodes: 1, limit: 0 }));
    assert_eq!(error.code(), Code::ResourceExhausted);
}

#[test]
fn a_tensor_that_would_be_too_large_is_refused_before_it_exists() {
    let expand = GraphProto {
        node: vec![node("ConstantOfShape", &["shape"], &["y"])],
        input: vec![info("shape", DType::I64, None)],
        output: vec![info("y", DType::F32, None)],
        ..GraphProto::default()
    };
    let program = load(&model(expand.clone(), 17)).unwrap();
    for shape in [&[1 << 40][..], &[1 << 31, 1 << 31, 1 << 31], &[-1]] {
        let error = program.run(&map(&[("shape", i64s(&[shape.len()], shape))]), &[]).unwrap_err();
        assert!(error.to_string().contains("ConstantOfShape"), "{error}");
    }
    let constant = GraphProto {
        input: Vec::new(),
        initializer: vec![initializer("shape", &i64s(&[1], &[1 << 40]))],
        ..expand
    };
    assert!(refused(&model(constant, 17)).contains("larger than the limit"));
}

#[test]
fn tensors_that_are_alive_together_are_bounded() {
    let names: Vec<String> = (0..8).map(|i| format!("y{i}")).collect();
    let graph = GraphProto {
        node: names.iter().map(|y| node("ConstantOfShape", &["shape"], &[y])).collect(),
        input: vec![info("shape", DType::I64, None)],
        output: names.iter().map(|y| info(y, DType::F32, None)).collect(),
        ..GraphProto::default()
    };
    let limits = Limits { run_bytes: 1 << 20, ..Limits::default() };
    // Eight equal nodes would become one.
    let engine = Engine::new(DeviceChoice::Cpu).unwrap().with_optimize(Optimize::Off);
    let program = engine.load(&model(graph, 17).encode_to_vec(), &NoExternalData, &limits).unwrap();
    assert!(program.run(&map(&[("shape", i64s(&[1], &[1000]))]), &[]).is_ok());
    let error = program.run(&map(&[("shape", i64s(&[1], &[100_000]))]), &[]).unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted);
}

#[test]
fn operators_of_the_optimiser_are_not_for_models() {
    let mut graph = addition();
    graph.node = vec![node("Linear", &["x", "w"], &["y"])];
    graph.node[0].domain = "ingle".into();
    let mut model = model(graph, 17);
    model.opset_import.push(OperatorSetIdProto { domain: "ingle".into(), version: 1 });
    assert!(matches!(load(&model).unwrap_err(), LoadError::Operators { .. }));
}

#[test]
fn constants_computed_at_load_are_bounded() {
    let graph = GraphProto {
        node: vec![node("ConstantOfShape", &["shape"], &["y"])],
        output: vec![info("y", DType::F32, None)],
        initializer: vec![initializer("shape", &i64s(&[1], &[1000]))],
        ..GraphProto::default()
    };
    let limits = Limits { bundle_bytes: 1000, ..Limits::default() };
    let engine = Engine::new(DeviceChoice::Cpu).unwrap();
    let bytes = model(graph, 17).encode_to_vec();
    let error = engine.load(&bytes, &NoExternalData, &limits).unwrap_err();
    assert!(matches!(error, LoadError::TooManyConstants { .. }), "{error}");
}

struct Folder;

impl ExternalData for Folder {
    fn read(&self, location: &str) -> Result<Bytes, ExternalDataError> {
        match location {
            "w.bin" => Ok(f32s(&[3], &[0., 10., 20.]).bytes().unwrap().clone()),
            "broken" => Err(ExternalDataError::Read(io::Error::other("disk"))),
            _ => Err(ExternalDataError::NotFound),
        }
    }
}

fn external(entries: &[(&str, &str)]) -> ModelProto {
    let mut graph = addition();
    let weight = &mut graph.initializer[0];
    weight.raw_data = Bytes::new();
    weight.data_location = DataLocation::External.into();
    weight.external_data = entries
        .iter()
        .map(|&(key, value)| StringStringEntryProto { key: key.into(), value: value.into() })
        .collect();
    model(graph, 17)
}

#[test]
fn weights_may_lie_in_another_file() {
    let engine = Engine::new(DeviceChoice::Cpu).unwrap();
    let bytes = external(&[("location", "w.bin"), ("offset", "4"), ("length", "8")]);
    let program = engine.load(&bytes.encode_to_vec(), &Folder, &Limits::default()).unwrap();
    let y = program.run(&map(&[("x", f32s(&[1, 2], &[1., 2.]))]), &[]).unwrap();
    assert_eq!(y["y"], f32s(&[1, 2], &[11., 22.]));
}

#[test]
fn external_data_cannot_leave_the_bundle() {
    let engine = Engine::new(DeviceChoice::Cpu).unwrap();
    let error = |entries: &[(&str, &str)]| {
        let bytes = external(entries).encode_to_vec();
        full_text(&engine.load(&bytes, &Folder, &Limits::default()).unwrap_err())
    };
    for outside in ["/etc/passwd", "../w.bin", "a/../../w.bin", ""] {
        assert!(error(&[("location", outside)]).contains("not a plain path"), "{outside}");
    }
    assert!(error(&[("location", "absent")]).contains("no such file"));
    assert!(error(&[("location", "broken")]).contains("could not be read"));
    assert!(error(&[("location", "w.bin"), ("offset", "8")]).contains("outside of its 12 bytes"));
    assert!(error(&[("location", "w.bin"), ("offset", "-1")]).contains("not a number"));
    let refused = full_text(&load(&external(&[("location", "w.bin")])).unwrap_err());
    assert!(refused.contains("not allowed"), "{refused}");
}

#[test]
fn an_output_of_another_type_than_declared_is_an_error() {
    let mut graph = addition();
    graph.output[0] = info("y", DType::I64, None);
    let program = load(&model(graph, 17)).unwrap();
    let error = program.run(&map(&[("x", f32s(&[1, 2], &[1., 2.]))]), &[]).unwrap_err();
    assert!(matches!(error, RunError::OutputType { .. }));
}

#[test]
fn a_tensor_of_every_dtype_passes_through() {
    for dtype in DType::ALL.into_iter().filter(|&dtype| dtype != DType::Bytes) {
        let graph = GraphProto {
            node: vec![node("Identity", &["x"], &["y"])],
            input: vec![info("x", dtype, None)],
            output: vec![info("y", dtype, None)],
            ..GraphProto::default()
        };
        let program = load(&model(graph, 17)).unwrap();
        for elements in [0, 1, 3, 5000] {
            let bytes = vec![1u8; elements * dtype.size_bytes().unwrap()];
            let x = Tensor::dense(dtype, Shape::new([elements]).unwrap(), bytes).unwrap();
            assert_eq!(program.run(&map(&[("x", x.clone())]), &[]).unwrap()["y"], x, "{dtype}");
        }
    }
}

#[test]
fn unaligned_requests_are_read_right() {
    let program = load(&model(addition(), 17)).unwrap();
    let bytes: Vec<u8> =
        [0u8].into_iter().chain([1f32; 64].map(f32::to_le_bytes).concat()).collect();
    let bytes = Bytes::from(bytes).slice(1..);
    let x = Tensor::dense(DType::F32, Shape::new([32, 2]).unwrap(), bytes).unwrap();
    let y = program.run(&map(&[("x", x)]), &[]).unwrap();
    assert_eq!(y["y"].as_slice::<f32>().unwrap()[..2], [11., 21.]);
}

#[test]
fn a_panic_of_burn_is_an_internal_error_without_its_text() {
    let mut graph = addition();
    graph.node = vec![node("Panic", &["x"], &["y"])];
    let program = load(&model(graph.clone(), 17)).unwrap();
    let x = map(&[("x", f32s(&[1, 2], &[1., 2.]))]);
    let error = program.run(&x, &[]).unwrap_err();
    assert!(matches!(error, RunError::Panicked { .. }), "{error}");
    assert_eq!(error.code(), Code::Internal);
    assert!(error.to_string().contains("operator Panic"), "{error}");
    assert!(!error.to_string().contains("foreign") && full_text(&error).contains("foreign"));
    graph.node = vec![node("Panic", &[], &["y"])];
    assert!(matches!(load(&model(graph, 17)).unwrap_err(), LoadError::Panicked { .. }));
}

#[test]
fn a_subgraph_reads_the_values_around_it() {
    let branch = |operator: &str| GraphProto {
        node: vec![node(operator, &["x", "w"], &["z"])],
        output: vec![info("z", DType::F32, None)],
        ..GraphProto::default()
    };
    let graph = |name: &str, g| AttributeProto {
        name: name.into(),
        r#type: AttributeType::Graph.into(),
        g: Some(g),
        ..AttributeProto::default()
    };
    let mut choice = node("If", &["c"], &["y"]);
    choice.attribute =
        vec![graph("then_branch", branch("Add")), graph("else_branch", branch("Sub"))];
    let mut outer = addition();
    outer.node = vec![choice];
    outer.input.push(info("c", DType::Bool, Some(&[])));
    let program = load(&model(outer.clone(), 17)).unwrap();
    for (condition, wanted) in [(1, [11., 22.]), (0, [-9., -18.])] {
        let inputs = [("x", f32s(&[1, 2], &[1., 2.])), ("c", bools(&[], &[condition]))];
        assert_eq!(program.run(&map(&inputs), &[]).unwrap()["y"], f32s(&[1, 2], &wanted));
    }
    outer.node[0].attribute[0].g.as_mut().unwrap().node[0].input[0] = "nowhere".into();
    assert!(refused(&model(outer.clone(), 17)).contains("\"nowhere\", which nothing produces"));
    outer.node[0].attribute[0].g.as_mut().unwrap().node[0].input[0] = "y".into();
    assert!(refused(&model(outer, 17)).contains("cycle"));
}

#[test]
fn constants_that_take_too_long_are_left_to_the_runs() {
    let mut graph = addition();
    graph.input.truncate(1);
    graph.node.insert(0, node("Exp", &["w"], &["e"]));
    graph.node[1].input[1] = "e".into();
    let limits = Limits { fold_time: std::time::Duration::ZERO, ..Limits::default() };
    let bytes = model(graph, 17).encode_to_vec();
    let engine = Engine::new(DeviceChoice::Cpu).unwrap();
    let late = engine.load(&bytes, &NoExternalData, &limits).unwrap();
    let early = engine.load(&bytes, &NoExternalData, &Limits::default()).unwrap();
    let x = map(&[("x", f32s(&[1, 2], &[1., 2.]))]);
    assert_eq!(late.run(&x, &[]).unwrap(), early.run(&x, &[]).unwrap());
}
