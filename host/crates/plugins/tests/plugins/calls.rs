use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ingle_plugins::{InitOptions, PluginError, PluginHost, PluginHostConfig};
use ingle_telemetry::Metrics;
use ingle_types::{Code, DType, Deadline, Dim, Limits, Shape, Tensor, TensorSpec};

use crate::fixture::{
    answer, context, floats, host, host_with, impatient, limits, postprocessor, preprocessor,
    tensors, x,
};
use crate::guests;

#[test]
fn tensors_of_every_type_come_back_as_they_went() {
    let host = host(limits());
    let echo = preprocessor(&host, "echo").unwrap();
    let mut inputs = tensors(&[]);
    for dtype in DType::ALL {
        let shape = Shape::new([2, 3]).unwrap();
        let tensor = match dtype.size_bytes() {
            Some(size) => Tensor::dense(dtype, shape, vec![1; 6 * size]).unwrap(),
            None => {
                let blobs = ["a", "", "\u{e9}", "\0", "long\nand more", "z"];
                Tensor::blobs(shape, blobs.map(Bytes::from).to_vec()).unwrap()
            }
        };
        inputs.insert(dtype.to_string(), tensor);
    }
    inputs.insert("scalar".into(), Tensor::from_slice(&[], &[7i32]).unwrap());
    inputs.insert("none".into(), Tensor::from_slice::<f64>(&[0, 4], &[]).unwrap());
    let prepared = echo.process(&context(), &inputs).unwrap();
    assert_eq!(prepared.examples, [inputs]);
    assert_eq!(prepared.carry, "seen");
}

#[test]
fn a_postprocessor_gets_results_and_carry() {
    let host = host(limits());
    let echo = postprocessor(&host, "echo-results").unwrap();
    let results = [x(&[1., 2., 3.]), x(&[4.])];
    assert_eq!(echo.process(&context(), &results, b"").unwrap(), results[0]);
    let carry = postprocessor(&host, "echo-carry").unwrap();
    let tensors = carry.process(&context(), &[x(&[0.])], b"five!").unwrap();
    assert_eq!(tensors["x"].dims(), [5]);
}

#[test]
fn init_tells_the_public_side() {
    let host = host(limits());
    let info = preprocessor(&host, "echo").unwrap().info().clone();
    assert_eq!((&*info.name, &*info.version, &*info.description), ("guest", "1.0.0", ""));
    assert_eq!(info.public_spec, [TensorSpec::new("x", DType::F32, vec![Dim::Any])]);
}

#[test]
fn every_instance_is_initialised_with_configuration_and_files() {
    let host = host(limits());
    let plugin = host.compile("files", None, &guests::preprocessor("files")).unwrap();
    let unknown_rank = TensorSpec { shape: None, ..TensorSpec::new("y", DType::I64, vec![]) };
    let files = plugin
        .preprocessor(InitOptions {
            config: r#"{"a": 1}"#.into(),
            files: vec![("labels.txt".into(), Bytes::from(vec![b'l'; 12345]))],
            model_inputs: vec![TensorSpec::new("x", DType::F32, vec![Dim::Any, Dim::Fixed(3)])],
            model_outputs: vec![unknown_rank],
        })
        .unwrap();
    for _ in 0..3 {
        assert_eq!(answer(&files, &x(&[0.])), [12345., 8.]);
    }
}

#[test]
fn a_guest_is_told_its_model_and_the_time_that_is_left() {
    let host = host(limits());
    let guest = preprocessor(&host, "context").unwrap();
    let [left_ms, version] = answer(&guest, &x(&[0.]))[..] else { panic!("two values") };
    assert_eq!(version, 3.);
    assert_eq!(left_ms, 30_000., "without a deadline, the plugin's own limit");
    let hurried = ingle_plugins::CallContext {
        deadline: Deadline::after(Duration::from_secs(20)),
        ..context()
    };
    let prepared = guest.process(&hurried, &x(&[0.])).unwrap();
    let left_ms = prepared.examples[0]["x"].as_slice::<f32>().unwrap()[0];
    assert!(left_ms <= 20_000., "{left_ms}");
}

#[test]
fn nothing_is_left_for_the_next_request() {
    let host = host(limits());
    let remember = preprocessor(&host, "remember").unwrap();
    for secret in 1..=1000 {
        assert_eq!(answer(&remember, &x(&[secret as f32])), [1., 0.]);
    }
}

#[test]
fn more_calls_than_instances_wait_and_all_are_answered() {
    let host = host_with(limits(), None, 2);
    let echo = preprocessor(&host, "echo").unwrap();
    std::thread::scope(|scope| {
        for thread in 0..12u8 {
            let echo = echo.clone();
            scope.spawn(move || {
                for call in 0..50u8 {
                    let values = [f32::from(thread), f32::from(call)];
                    assert_eq!(answer(&echo, &x(&values)), values);
                }
            });
        }
    });
}

#[test]
fn a_call_after_the_deadline_is_not_made() {
    let host = host(limits());
    let echo = preprocessor(&host, "echo").unwrap();
    let late =
        ingle_plugins::CallContext { deadline: Deadline::after(Duration::ZERO), ..context() };
    let error = echo.process(&late, &x(&[1.])).unwrap_err();
    assert!(matches!(error, PluginError::Timeout { deadline: true, .. }), "{error}");
    assert_eq!(error.code(), Code::DeadlineExceeded);
    assert!(error.to_string().ends_with("the request's deadline had passed"), "{error}");
}

#[test]
fn a_call_that_finds_no_instance_before_its_deadline_says_so() {
    let limits = Limits { plugin_call_timeout: Duration::from_secs(1), ..limits() };
    let host = host_with(limits, None, 1);
    let spin = preprocessor(&host, "loop").unwrap();
    let soon = || ingle_plugins::CallContext {
        deadline: Deadline::after(Duration::from_millis(300)),
        ..context()
    };
    let (first, second) = std::thread::scope(|scope| {
        let calls = [(), ()].map(|()| scope.spawn(|| spin.process(&soon(), &x(&[0.]))));
        calls.map(|call| call.join().unwrap().unwrap_err()).into()
    });
    let busy = |error: &PluginError| matches!(error, PluginError::Busy { .. });
    let timeout = |error: &PluginError| matches!(error, PluginError::Timeout { .. });
    assert!(
        timeout(&first) && (busy(&second) || timeout(&second)) || busy(&first) && timeout(&second),
        "{first}; {second}"
    );
    assert_eq!((first.code(), second.code()), (Code::DeadlineExceeded, Code::DeadlineExceeded));
}

#[test]
fn the_sooner_of_deadline_and_limit_ends_a_call() {
    let patient = host(limits());
    let spin = preprocessor(&patient, "loop").unwrap();
    let soon = ingle_plugins::CallContext {
        deadline: Deadline::after(Duration::from_millis(20)),
        ..context()
    };
    let error = spin.process(&soon, &x(&[0.])).unwrap_err();
    assert!(matches!(error, PluginError::Timeout { deadline: true, .. }), "{error}");

    let host = host(impatient());
    let spin = preprocessor(&host, "loop").unwrap();
    let error = spin.process(&context(), &x(&[0.])).unwrap_err();
    assert!(matches!(error, PluginError::Timeout { deadline: false, .. }), "{error}");
    assert_eq!(error.to_string(), "plugin loop in preprocess: took longer than 10ms");
}

#[test]
fn an_answer_may_be_as_large_as_its_limit() {
    let bytes = 100_000usize;
    let output = |limit| {
        let host = host(Limits { plugin_output_bytes: limit, ..limits() });
        let guest = preprocessor(&host, "output").unwrap();
        let size = Tensor::from_slice(&[1], &[bytes as i32]).unwrap();
        guest.process(&context(), &tensors(&[("x", size)]))
    };
    assert_eq!(output(bytes).unwrap().examples[0]["x"].size_bytes(), bytes);
    assert!(output(bytes + 1).is_ok());
    for limit in [bytes - 1, bytes / 10, 0] {
        let error = output(limit).unwrap_err();
        let text = format!("it handed over more than {limit} bytes");
        assert!(error.to_string().ends_with(&text), "{error}");
        assert_eq!(error.code(), Code::Internal);
    }
}

#[test]
fn an_answer_must_be_what_the_plugin_announced() {
    let host = host(limits());
    let echo = postprocessor(&host, "echo-results").unwrap();
    let error = |outputs| echo.process(&context(), &[outputs], b"").unwrap_err().to_string();
    let at = "plugin echo-results in postprocess: broke the plugin contract: ";
    assert_eq!(
        error(tensors(&[("y", floats(&[1.]))])),
        format!("{at}tensor \"y\" is not in its public-spec")
    );
    assert_eq!(error(tensors(&[])), format!("{at}tensor \"x\" of its public-spec is missing"));
    let ints = Tensor::from_slice(&[1], &[1i32]).unwrap();
    assert!(error(tensors(&[("x", ints)])).contains("expects float but int32"));
    let square = Tensor::from_slice(&[1, 1], &[1f32]).unwrap();
    assert!(error(tensors(&[("x", square)])).contains("expects shape [-1] but [1,1]"));
}

#[test]
fn an_input_larger_than_the_guests_memory_costs_that_call() {
    let host = host(limits());
    let echo = preprocessor(&host, "echo").unwrap();
    let error = echo.process(&context(), &x(&vec![0.; 8 * 1024 * 1024])).unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted, "{error}");
    assert_eq!(answer(&echo, &x(&[1.])), [1.]);
}

#[test]
fn calls_are_counted_by_stage_and_code() {
    let metrics = Metrics::new();
    let host = PluginHost::new(PluginHostConfig {
        limits: Arc::new(limits()),
        cache_dir: None,
        max_concurrent_calls: 1,
        metrics: metrics.clone(),
    })
    .unwrap();
    let echo = preprocessor(&host, "echo").unwrap();
    let trap = postprocessor(&host, "trap").unwrap();
    for _ in 0..3 {
        echo.process(&context(), &x(&[1.])).unwrap();
    }
    trap.process(&context(), &[x(&[1.])], b"").unwrap_err();
    let rendered = metrics.render();
    let count = |parts: [&str; 3]| {
        let line = rendered.lines().find(|line| parts.iter().all(|part| line.contains(part)));
        line.and_then(|line| line.rsplit(' ').next()).map(ToOwned::to_owned)
    };
    let calls = "plugin_calls_total{";
    assert_eq!(count([calls, "plugin=\"echo\"", "stage=\"preprocess\""]).as_deref(), Some("3"));
    assert_eq!(count([calls, "plugin=\"trap\"", "code=\"INTERNAL\""]).as_deref(), Some("1"));
}
