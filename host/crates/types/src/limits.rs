use std::time::Duration;

/// Every bound of the server, with its default. Nothing is bounded by a number
/// written elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A request's body after decoding, in bytes. Over it: RESOURCE_EXHAUSTED, HTTP 413.
    pub request_bytes: usize,
    /// All HTTP headers of a request, in bytes. Over it: HTTP 431.
    pub header_bytes: u32,
    /// Nesting of a JSON value that is kept; unknown keys are skipped at any depth.
    pub json_depth: usize,
    /// Tensors in one request, tasks in a MultiInference. Over it: INVALID_ARGUMENT.
    pub tensors_per_request: usize,
    /// Time for a request's headers to arrive. Over it the connection is closed.
    pub header_read_timeout: Duration,
    /// Concurrent streams of one HTTP/2 connection.
    pub http2_streams: u32,
    /// Streaming gRPC calls at one moment, all connections together: health watches and
    /// reflection. Over it: RESOURCE_EXHAUSTED.
    pub streaming_calls: usize,
    /// Messages of one HTTP/2 connection's requests that are read or answered at one moment,
    /// in bytes, also when inflated. Over it: RESOURCE_EXHAUSTED.
    pub connection_bytes: usize,
    /// Pause between two looks of a health watch.
    pub watch_interval: Duration,
    /// Open connections of one listener; further ones wait to be accepted.
    pub connections: usize,
    /// What a gRPC request without a deadline gets, and what every request has to arrive in.
    /// Over it: DEADLINE_EXCEEDED, HTTP 504.
    pub default_deadline: Duration,
    /// What a REST request gets, which cannot say; `None` = it is waited for. Over it:
    /// HTTP 504.
    pub rest_deadline: Option<Duration>,
    /// Jobs waiting for a worker. Over it: RESOURCE_EXHAUSTED, HTTP 429.
    pub queue_length: usize,
    /// Examples in one request of a signature with plugins. Over it: INVALID_ARGUMENT.
    pub examples_per_request: usize,
    /// Linear memory of one plugin instance, all memories together, in bytes.
    pub plugin_memory_bytes: usize,
    /// Table entries of one plugin instance, all tables together.
    pub plugin_table_elements: usize,
    /// Time of one plugin call, or the request's deadline if sooner.
    pub plugin_call_timeout: Duration,
    /// All tensors that one plugin call returns, in bytes.
    pub plugin_output_bytes: usize,
    /// Log text kept of one plugin call, in bytes; the rest is dropped and counted.
    pub plugin_log_bytes: usize,
    /// Stack of a plugin, in bytes.
    pub plugin_stack_bytes: usize,
    /// A component's file, in bytes.
    pub component_bytes: u64,
    /// Compiled components kept on disk, in bytes; the least recently used go first.
    pub plugin_cache_bytes: u64,
    /// A bundle's manifest, in bytes.
    pub manifest_bytes: u64,
    /// A file that a bundle hands to a plugin, in bytes.
    pub plugin_file_bytes: u64,
    /// All files of a bundle that are read, in bytes.
    pub bundle_bytes: u64,
    /// Answered requests that wait to be written to the log of requests, in number and in
    /// bytes. Over it they are not logged.
    pub request_log_records: usize,
    pub request_log_bytes: usize,
    /// A file of the log of requests, in bytes; then the next one begins.
    pub request_log_file_bytes: u64,
    /// Files of one log that are kept; the oldest go first.
    pub request_log_files: usize,
    /// A version's file of warm-up requests, in bytes.
    pub warm_up_bytes: u64,
    /// Requests in it. Over it: INVALID_ARGUMENT.
    pub warm_up_records: usize,
    /// Nodes of an ONNX graph, with those of its subgraphs.
    pub graph_nodes: usize,
    /// One tensor inside a model, in bytes.
    pub tensor_bytes: usize,
    /// Time that loading spends on computing a model's constants; what is left then is
    /// computed by every run.
    pub fold_time: Duration,
    /// All tensors that are alive at one moment of a model's run, in bytes.
    pub run_bytes: usize,
    /// Time that the ports wait at the start for models to load; then those that are
    /// available are served.
    pub startup_wait: Duration,
    /// Time from SIGTERM, after which the server is not ready, to closing the ports: that
    /// of load balancers to see it.
    pub drain_delay: Duration,
    /// Time that requests in flight get to finish once the ports are closed. Over it they
    /// are cut off, and the process ends with exit code 75.
    pub drain_grace: Duration,
}

const MIB: usize = 1024 * 1024;

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_bytes: 64 * MIB,
            header_bytes: 16 * 1024,
            json_depth: 128,
            tensors_per_request: 256,
            header_read_timeout: Duration::from_secs(10),
            http2_streams: 200,
            streaming_calls: 256,
            connection_bytes: 1024 * MIB,
            watch_interval: Duration::from_millis(500),
            connections: 4096,
            default_deadline: Duration::from_secs(60),
            rest_deadline: Some(Duration::from_secs(30)),
            queue_length: 1024,
            examples_per_request: 1024,
            plugin_memory_bytes: 256 * MIB,
            plugin_table_elements: 20_000,
            plugin_call_timeout: Duration::from_secs(1),
            plugin_output_bytes: 64 * MIB,
            plugin_log_bytes: 64 * 1024,
            plugin_stack_bytes: 512 * 1024,
            component_bytes: 32 * MIB as u64,
            plugin_cache_bytes: 1024 * MIB as u64,
            manifest_bytes: MIB as u64,
            plugin_file_bytes: 16 * MIB as u64,
            bundle_bytes: 4096 * MIB as u64,
            request_log_records: 1024,
            request_log_bytes: 64 * MIB,
            request_log_file_bytes: 64 * MIB as u64,
            request_log_files: 16,
            warm_up_bytes: 1024 * MIB as u64,
            warm_up_records: 1000,
            graph_nodes: 1_000_000,
            tensor_bytes: 2048 * MIB,
            fold_time: Duration::from_secs(10),
            run_bytes: 16 * 1024 * MIB,
            startup_wait: Duration::from_secs(60),
            drain_delay: Duration::ZERO,
            drain_grace: Duration::from_secs(30),
        }
    }
}
