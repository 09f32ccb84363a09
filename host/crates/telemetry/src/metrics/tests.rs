use super::*;

const KIND: RequestKind<'_> = RequestKind {
    model: "m",
    version: Some(3),
    signature: "serving_default",
    api: "Predict",
    entrypoint: "REST",
};

fn finished(code: Option<Code>) -> Finished {
    let millis = |millis| Some(Duration::from_millis(millis));
    let elapsed = Duration::from_millis(2);
    Finished { code, elapsed, decode: millis(1), run: millis(1), encode: millis(0) }
}

/// The value of the only line that begins so.
fn value(text: &str, start: &str) -> String {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(start));
    let found = lines.next().unwrap_or_else(|| panic!("no {start} in\n{text}"));
    assert!(lines.next().is_none(), "{start} twice in\n{text}");
    found.trim().to_owned()
}

#[test]
fn a_request_is_counted_under_its_code_and_both_names() {
    let metrics = Metrics::new();
    metrics.request(&KIND, &finished(None));
    metrics.request(&KIND, &finished(None));
    metrics.request(&KIND, &finished(Some(Code::NotFound)));
    let text = metrics.render();
    let labels =
        r#"model="m",version="3",signature="serving_default",api="Predict",entrypoint="REST""#;
    let own =
        |code: &str| value(&text, &format!(r#"ingle_requests_total{{{labels},code="{code}"}}"#));
    assert_eq!((own("OK").as_str(), own("NOT_FOUND").as_str()), ("2", "1"));
    assert_eq!(value(&text, &format!("ingle_request_duration_seconds_count{{{labels}}}")), "3");
    let stage = r#"ingle_stage_duration_seconds_count{model="m",version="3",signature="serving_default",stage="#;
    assert_eq!(value(&text, &format!("{stage}\"decode\"}}")), "3");
    assert_eq!(value(&text, &format!("{stage}\"encode\"}}")), "3");
    let count = ":tensorflow:serving:request_count{model_name=\"m\",status=";
    assert_eq!(value(&text, &format!("{count}\"OK\"}}")), "2");
    assert_eq!(value(&text, &format!("{count}\"NOT_FOUND\"}}")), "1");
    let latency = |part: &str| value(&text, &format!(":tensorflow:serving:request_latency_{part}"));
    assert_eq!(latency(r#"sum{model_name="m",API="predict",entrypoint="REST"}"#), "4000");
    assert_eq!(latency(r#"count{model_name="m",API="predict",entrypoint="REST"}"#), "2");
    assert_eq!(
        value(
            &text,
            r#":tensorflow:serving:runtime_latency_sum{model_name="m",API="Predict",runtime="TF1"}"#
        ),
        "2000"
    );
}

#[test]
fn latencies_have_tensorflow_servings_edges() {
    let metrics = Metrics::new();
    metrics.request(&KIND, &finished(None));
    let text = metrics.render();
    let bucket = ":tensorflow:serving:request_latency_bucket{model_name=\"m\",API=\"predict\",entrypoint=\"REST\",le=\"";
    let edges: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix(bucket)?.split('"').next()).collect();
    assert_eq!(edges.len(), 34);
    assert_eq!(edges[..6], ["10", "18", "32.4", "58.32", "104.976", "188.957"]);
    assert_eq!(edges[31..], ["8.19309e+08", "1.47476e+09", "+Inf"]);
}

#[test]
fn what_tensorflow_serving_does_not_count_is_counted_by_us() {
    let metrics = Metrics::new();
    for (api, entrypoint) in
        [("GetModelStatus", "GRPC"), ("MultiInference", "GRPC"), ("GetModelStatus", "REST")]
    {
        metrics.request(&RequestKind { api, entrypoint, ..KIND }, &finished(None));
        metrics.request(&RequestKind { api, entrypoint, ..KIND }, &finished(Some(Code::Internal)));
    }
    let text = metrics.render();
    assert_eq!(
        value(&text, r#":tensorflow:serving:request_count{model_name="m",status="OK"}"#),
        "1"
    );
    let latency = r#":tensorflow:serving:request_latency_count{"#;
    assert_eq!(value(&text, latency), r#"model_name="m",API="",entrypoint="REST"} 1"#);
    let runtime = r#":tensorflow:serving:runtime_latency_count{"#;
    assert_eq!(value(&text, runtime), r#"model_name="m",API="MultiInference",runtime="TF1"} 1"#);
}

#[test]
fn every_metric_says_its_type_and_ours_say_what_they_are() {
    let text = Metrics::new().render();
    let types: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    let expected = [
        ":tensorflow:cc:saved_model:load_attempt_count counter",
        ":tensorflow:cc:saved_model:load_latency counter",
        ":tensorflow:serving:model_warmup_latency histogram",
        ":tensorflow:serving:model_warmup_records_read counter",
        ":tensorflow:serving:request_count counter",
        ":tensorflow:serving:request_example_count_total counter",
        ":tensorflow:serving:request_example_counts histogram",
        ":tensorflow:serving:request_latency histogram",
        ":tensorflow:serving:request_log_count counter",
        ":tensorflow:serving:runtime_latency histogram",
        "process_start_time_seconds gauge",
    ];
    assert_eq!(types[..expected.len()], expected);
    assert!(types[expected.len()..].iter().all(|line| line.starts_with("ingle_")), "{types:?}");
    for line in &types[expected.len() - 1..] {
        let (name, kind) = line.split_once(' ').unwrap();
        assert!(text.contains(&format!("# HELP {name} ")), "{name}");
        assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
    }
    assert_eq!(value(&text, "ingle_build_info{"), r#"version="0.1.0"} 1"#);
    let started: f64 = value(&text, "process_start_time_seconds ").parse().unwrap();
    assert!(started > 1.7e9);
    assert!(!text.contains("# EOF"));
}

#[test]
fn loads_warm_ups_and_examples_are_counted() {
    let metrics = Metrics::new();
    let load =
        |outcome| Load { model: "m", path: "/m/1", outcome, elapsed: Duration::from_millis(3) };
    metrics.version_load(load(LoadOutcome::Ok));
    metrics.version_load(load(LoadOutcome::Error));
    metrics.plugin_swap("p", LoadOutcome::Ok);
    metrics.examples("m", 3);
    metrics.examples("m", 1);
    metrics.warm_up("/m/1", None, Duration::from_millis(1));
    metrics.warm_up_records("/m/1", Some(Code::Internal), 2);
    metrics.weights_bytes("m", 1, Some(7));
    let text = metrics.render();
    for (start, expected) in [
        (r#"ingle_version_loads_total{model="m",outcome="error"}"#, "1"),
        (r#"ingle_version_load_duration_seconds_count{model="m"}"#, "1"),
        (r#"ingle_plugin_swaps_total{plugin="p",outcome="ok"}"#, "1"),
        (r#"ingle_version_weights_bytes{model="m",version="1"}"#, "7"),
        (
            r#":tensorflow:cc:saved_model:load_attempt_count{model_path="/m/1",status="success"}"#,
            "1",
        ),
        (r#":tensorflow:cc:saved_model:load_attempt_count{model_path="/m/1",status="fail"}"#, "1"),
        (r#":tensorflow:cc:saved_model:load_latency{model_path="/m/1"}"#, "3000"),
        (r#":tensorflow:serving:request_example_count_total{model="m"}"#, "4"),
        (r#":tensorflow:serving:request_example_counts_bucket{model="m",le="1"}"#, "1"),
        (r#":tensorflow:serving:request_example_counts_bucket{model="m",le="16384"}"#, "2"),
        (r#":tensorflow:serving:request_example_counts_sum{model="m"}"#, "4"),
        (r#":tensorflow:serving:model_warmup_latency_sum{model_path="/m/1",status="OK"}"#, "1000"),
        (
            r#":tensorflow:serving:model_warmup_records_read{model_path="/m/1",status="INTERNAL"}"#,
            "2",
        ),
    ] {
        assert_eq!(value(&text, start), expected);
    }
    metrics.weights_bytes("m", 1, None);
    assert!(!metrics.render().contains("ingle_version_weights_bytes{"));
}

#[test]
fn a_counter_is_found_by_its_internal_name() {
    let metrics = Metrics::new();
    metrics.request(&KIND, &finished(None));
    metrics.request(&KIND, &finished(Some(Code::Internal)));
    assert_eq!(metrics.counter("/tensorflow/serving/request_count"), Some(2));
    assert_eq!(metrics.counter("/tensorflow/cc/saved_model/load_latency"), Some(0));
    for none in [
        "",
        "request_count",
        ":tensorflow:serving:request_count",
        "/tensorflow/serving/request_latency",
    ] {
        assert_eq!(metrics.counter(none), None, "{none}");
    }
}

#[test]
fn versions_that_come_and_go_make_no_series_without_end() {
    let metrics = Metrics::new();
    for version in 0..5000 {
        metrics.request(&RequestKind { version: Some(version), ..KIND }, &finished(None));
    }
    let text = metrics.render();
    let counted = text.lines().filter(|line| line.starts_with("ingle_requests_total{"));
    let counted: Vec<_> = counted.collect();
    assert_eq!(counted.len(), 4097);
    let rest = r#"ingle_requests_total{model="m",version="",signature="",api="Predict",entrypoint="REST",code="OK"}"#;
    assert_eq!(value(&text, rest), "904");
    assert_eq!(metrics.counter("/tensorflow/serving/request_count"), Some(5000));
}
