use clap::Parser;

use super::*;
use crate::cli::Cli;

fn config(flags: &[&str]) -> anyhow::Result<Config> {
    let arguments = ["ingle"].iter().chain(flags);
    Config::new(Cli::try_parse_from(arguments).unwrap().serve)
}

#[test]
fn what_cannot_be_started_says_which_flag_is_wrong() {
    let root = tempfile::tempdir().unwrap();
    let base = format!("--model_base_path={}", root.path().display());
    let refused = |flags: &[&str]| config(flags).unwrap_err().to_string();
    assert!(refused(&[&base, "--port=0", "--rest_api_port=0"]).contains("both --port"));
    assert!(refused(&[&base, "--port=9", "--rest_api_port=9"]).contains("are the same"));
    assert!(refused(&[&base, "--use_alts_credentials"]).contains("ALTS"));
    assert!(refused(&["--repository=/nowhere"]).contains("--repository=/nowhere"));
    assert!(refused(&[&base, "--plugin_repository=/no"]).contains("--plugin_repository"));
    let ssl = root.path().join("ssl");
    std::fs::write(&ssl, "server_key: 'a'").unwrap();
    for flag in ["--ssl_config_file", "--rest_api_ssl_config_file"] {
        assert!(refused(&[&base, &format!("{flag}=/no")]).contains(&format!("{flag}=/no")));
        let error = config(&[&base, &format!("{flag}={}", ssl.display())]).unwrap_err();
        assert!(format!("{error:#}").contains("server_cert is not set"), "{error:#}");
    }
    assert!(
        refused(&[&base, "--monitoring_config_file=/no"]).contains("--monitoring_config_file=/no")
    );
    let admin = ["--admin_port=1", "--admin_bind_address=0.0.0.0"];
    assert!(refused(&[&base, admin[0], admin[1]]).contains("--admin_token_file is needed"));
    let token = format!("--admin_token_file={}", ssl.display());
    let error = config(&[&base, &token]).unwrap_err();
    assert!(format!("{error:#}").contains("holds fewer than 16 characters"), "{error:#}");
    std::fs::write(&ssl, "0123456789abcdef\n").unwrap();
    assert!(config(&[&base, admin[0], admin[1], &token]).unwrap().admin.is_some());
    assert!(config(&[&base]).unwrap().admin.is_none());
    assert!(config(&[&base, admin[0]]).unwrap().admin.unwrap().address.ip().is_loopback());
    assert!(refused(&["--model_config_file=/no"]).contains("--model_config_file=/no"));
}

#[test]
fn a_connection_may_hold_requests_of_the_largest_size() {
    assert_eq!(limits_for(64 << 20), Limits::default());
    assert_eq!(limits_for(2 << 30).connection_bytes, 8 << 30);
}

#[test]
fn an_empty_path_is_none() {
    let root = tempfile::tempdir().unwrap();
    let base = format!("--model_base_path={}", root.path().display());
    let config = config(&["--model_config_file=", &base, "--cache_dir="]).unwrap();
    assert!(matches!(config.models, Models::Listed(models) if models.len() == 1));
    assert_eq!((config.cache_dir, config.followed.is_none()), (None, true));
}

#[test]
fn the_image_has_a_model_where_its_environment_says_nothing() {
    let of = |name: Option<&str>, folder: Option<&str>| {
        ImageModel::of(name.map(str::to_owned), folder.map(str::to_owned)).base_path
    };
    assert_eq!(of(None, None), Path::new("/models/model"));
    assert_eq!(of(Some("m"), None), Path::new("/models/m"));
    assert_eq!(of(Some("m"), Some("/srv")), Path::new("/srv/m"));
}

#[test]
fn a_socket_alone_is_enough() {
    let root = tempfile::tempdir().unwrap();
    let base = format!("--model_base_path={}", root.path().display());
    let off = ["--port=0", "--rest_api_port=0"];
    let config = config(&[&base, off[0], off[1], "--grpc_socket_path=/run/grpc"]).unwrap();
    assert_eq!((config.grpc, config.rest), (None, None));
    assert_eq!(config.grpc_socket, Some("/run/grpc".into()));
    assert!(config.grpc_tls.is_none() && config.rest_tls.is_none());
}

#[test]
fn models_are_optimised_unless_that_is_off() {
    let root = tempfile::tempdir().unwrap();
    let base = format!("--model_base_path={}", root.path().display());
    let level = |flags: &[&str]| config(flags).unwrap().optimize;
    assert_eq!(level(&[&base]), Optimize::On);
    assert_eq!(level(&[&base, "--engine_optimize=off"]), Optimize::Off);
}

#[test]
fn batching_parameters_need_batching_and_are_checked() {
    let root = tempfile::tempdir().unwrap();
    let base = format!("--model_base_path={}", root.path().display());
    let file = root.path().join("batching");
    let flag = format!("--batching_parameters_file={}", file.display());
    let refused = |flags: &[&str]| format!("{:#}", config(flags).unwrap_err());
    let start = "--batching_parameters_file is set without";
    assert!(refused(&[&base, &flag]).starts_with(start));
    assert!(refused(&[&base, "--enable_batching=false", &flag]).starts_with(start));
    let missing = refused(&[&base, "--enable_batching", &flag]);
    assert!(missing.starts_with(&flag), "{missing}");
    std::fs::write(&file, "max_batch_size { value: -1 }").unwrap();
    let wrong = refused(&[&base, "--enable_batching", &flag]);
    assert_eq!(wrong, format!("{flag}: max_batch_size must be positive; was -1"));
    std::fs::write(&file, "num_batch_threads { value: 3 }").unwrap();
    let batching = |flags: &[&str]| config(flags).unwrap().batching;
    let common = batching(&[&base, "--enable_batching", &flag]).unwrap().common;
    assert_eq!(common.num_batch_threads, Some(3));
    assert_eq!(common.thread_pool_name, "batch_threads");
    let alone = batching(&[&base, "--enable_batching", "--batching_parameters_file="]).unwrap();
    assert_eq!(alone.common.thread_pool_name, "model_server_batch_threads");
    assert!(alone.per_version.is_none());
    let per_model = "--enable_per_model_batching_parameters";
    assert!(batching(&[&base, "--enable_batching", per_model]).unwrap().per_version.is_some());
    assert!(batching(&[&base, per_model]).is_none());
}

#[test]
fn rest_requests_have_half_a_minute_unless_it_is_said_otherwise() {
    let root = tempfile::tempdir().unwrap();
    let base = format!("--model_base_path={}", root.path().display());
    let deadline = |flags: &[&str]| config(flags).unwrap().limits.rest_deadline;
    assert_eq!(deadline(&[&base]), Some(Duration::from_secs(30)));
    let said = |millis| deadline(&[&base, &format!("--rest_api_timeout_in_ms={millis}")]);
    assert_eq!(said("60000"), Some(Duration::from_secs(60)));
    assert_eq!((said("0"), said("-1")), (None, None));
}

#[test]
fn warm_up_requests_are_sent_once_unless_it_is_said_otherwise() {
    let root = tempfile::tempdir().unwrap();
    let base = format!("--model_base_path={}", root.path().display());
    let times = |flags: &[&str]| config(flags).unwrap().warm_up_iterations;
    assert_eq!(times(&[&base]), Some(1));
    let flag = |times| format!("--num_request_iterations_for_warmup={times}");
    assert_eq!(times(&[&base, &flag(4)]), Some(4));
    assert_eq!(times(&[&base, &flag(-4)]), Some(1));
    assert_eq!(times(&[&base, &flag(4), "--enable_model_warmup=false"]), None);
}

#[test]
fn plugins_are_looked_for_beside_the_repository() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("models")).unwrap();
    let repository = format!("--repository={}", root.path().join("models").display());
    assert_eq!(config(&[&repository]).unwrap().plugin_repository, None);
    std::fs::create_dir(root.path().join("plugins")).unwrap();
    assert!(config(&[&repository]).unwrap().plugin_repository.is_some());
}

#[test]
fn retries_and_load_threads_are_those_of_the_flags() {
    let root = tempfile::tempdir().unwrap();
    let base = format!("--model_base_path={}", root.path().display());
    let default = config(&[&base]).unwrap();
    assert_eq!((default.retry, default.loads_at_once), (RetryPolicy::default(), None));
    let flags =
        ["--max_num_load_retries=2", "--load_retry_interval_micros=1500", "--num_load_threads=3"];
    let set = config(&[&base, flags[0], flags[1], flags[2]]).unwrap();
    let interval = Duration::from_micros(1500);
    assert_eq!(set.retry, RetryPolicy { retries: 2, interval, every_failure: true });
    assert_eq!(set.loads_at_once, NonZeroUsize::new(3));
    let flags =
        ["--max_num_load_retries=-1", "--load_retry_interval_micros=-1", "--num_load_threads=-1"];
    let none = config(&[&base, flags[0], flags[1], flags[2]]).unwrap();
    let interval = Duration::ZERO;
    assert_eq!(none.retry, RetryPolicy { retries: 0, interval, every_failure: true });
    assert_eq!(none.loads_at_once, None);
}

#[test]
fn a_poll_of_zero_looks_once() {
    assert_eq!(seconds("--f", 0.0).unwrap(), None);
    assert_eq!(seconds("--f", -1.0).unwrap(), None);
    assert_eq!(seconds("--f", 0.05).unwrap(), Some(Duration::from_millis(50)));
    assert!(seconds("--f", f64::INFINITY).is_err());
}
