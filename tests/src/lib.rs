//! Starts the real binary on free loopback ports and talks to it as clients do.

pub mod client;
mod command;
pub mod onnx;
pub mod repository;
mod server;

pub use command::{Said, ingle};
pub use server::{Server, workspace};
