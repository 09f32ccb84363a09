//! Arguments that the commands share.

use clap::{Args, ValueEnum};
use ingle_engine::DeviceChoice;

#[derive(Debug, Args)]
pub(super) struct CommonArgs {
    /// Where models run: auto, cpu, cuda[:N] or vulkan[:N].
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub(super) device: DeviceChoice,

    /// Text for people, or JSON for scripts.
    #[arg(long, value_enum, default_value_t)]
    pub(super) format: Format,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    #[default]
    Text,
    Json,
}
