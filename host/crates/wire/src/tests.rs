//! Both protocols over real sockets, against models that answer with their inputs.

mod admin;
mod drain;
mod grpc;
mod grpc_malformed;
mod health;
mod http;
mod inference;
mod limits;
mod peer;
mod reflection;
mod reload;
mod request_log;
mod rest;
mod rest_health;
mod rest_inference;
mod rest_malformed;
mod rest_paths;
mod rest_vectors;
pub(crate) mod round_trip;
mod server;
pub(crate) mod stub;
mod tls;
mod unix_socket;
mod warm_up;
