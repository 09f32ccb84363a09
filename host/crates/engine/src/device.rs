use std::fmt;
use std::str::FromStr;

use ingle_types::{Code, Limits};

use crate::external::ExternalData;
use crate::program::Program;
use crate::{LoadError, Optimize, probe};

/// What the user asked to run on: `auto`, `cpu`, `cuda[:N]` or `vulkan[:N]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// CUDA where a driver and a device answer, otherwise the CPU.
    #[default]
    Auto,
    Cpu,
    Cuda(usize),
    Vulkan(usize),
}

impl FromStr for DeviceChoice {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let unknown = || DeviceError::Unknown { given: text.to_owned() };
        let (kind, index) = match text.split_once(':') {
            None => (text, None),
            Some((kind, index)) => (kind, Some(index.parse().map_err(|_| unknown())?)),
        };
        match (kind, index) {
            ("auto", None) => Ok(Self::Auto),
            ("cpu", None) => Ok(Self::Cpu),
            ("cuda", index) if cfg!(feature = "cuda") => Ok(Self::Cuda(index.unwrap_or(0))),
            ("vulkan", index) if cfg!(feature = "vulkan") => Ok(Self::Vulkan(index.unwrap_or(0))),
            ("cuda", _) => Err(DeviceError::NotCompiledIn { kind: "cuda" }),
            ("vulkan", _) => Err(DeviceError::NotCompiledIn { kind: "vulkan" }),
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Vulkan(index) => write!(f, "vulkan:{index}"),
        }
    }
}

/// Why a device cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    #[error("device \"{given}\" is not known; use auto, cpu, cuda, cuda:N, vulkan or vulkan:N")]
    Unknown { given: String },
    #[error("this binary was built without the feature {kind}; build with --features {kind}")]
    NotCompiledIn { kind: &'static str },
    #[error("{choice} is not available: {reason}")]
    Unavailable { choice: DeviceChoice, reason: String },
}

impl DeviceError {
    pub fn code(&self) -> Code {
        match self {
            Self::Unknown { .. } => Code::InvalidArgument,
            Self::NotCompiledIn { .. } => Code::Unimplemented,
            Self::Unavailable { .. } => Code::FailedPrecondition,
        }
    }
}

/// A device that answered when it was probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    Cpu,
    Cuda(usize),
    Vulkan(usize),
}

/// `cpu`, `cuda:0`, `vulkan:1`.
impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Vulkan(index) => write!(f, "vulkan:{index}"),
        }
    }
}

/// Loads models onto one device.
#[derive(Clone, Debug)]
pub struct Engine {
    device: Device,
    fallback: Option<String>,
    optimize: Optimize,
}

const MIB: usize = 1024 * 1024;

impl Engine {
    /// Looks for the device, so that a missing driver is an error here and not a
    /// panic on a thread of Burn's later.
    ///
    /// # Errors
    /// Where the device that was asked for does not answer; never for `auto`.
    pub fn new(choice: DeviceChoice) -> Result<Self, DeviceError> {
        let unavailable = |reason| DeviceError::Unavailable { choice, reason };
        let (device, fallback) = match choice {
            DeviceChoice::Cpu => (Device::Cpu, None),
            DeviceChoice::Cuda(index) => {
                probe::cuda(index).map_err(unavailable)?;
                (Device::Cuda(index), None)
            }
            DeviceChoice::Vulkan(index) => {
                probe::vulkan(index).map_err(unavailable)?;
                (Device::Vulkan(index), None)
            }
            DeviceChoice::Auto => match probe::cuda(0) {
                Ok(()) => (Device::Cuda(0), None),
                Err(reason) => (Device::Cpu, Some(reason)),
            },
        };
        Ok(Self { device, fallback, optimize: Optimize::default() })
    }

    /// Whether models are optimised when they are loaded; they are, by default.
    #[must_use]
    pub fn with_optimize(self, optimize: Optimize) -> Self {
        Self { optimize, ..self }
    }

    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Why `auto` took the CPU; `None` where it did not, or was not asked to choose.
    pub fn fallback(&self) -> Option<&str> {
        self.fallback.as_deref()
    }

    /// The stack that a thread needs which loads or runs a program, in bytes.
    ///
    /// Burn's own threads for Vulkan need as much, which only the environment
    /// variable `RUST_MIN_STACK` of the process can give them.
    pub fn worker_stack_bytes(&self) -> usize {
        match self.device {
            Device::Cpu => 8 * MIB,
            Device::Cuda(_) | Device::Vulkan(_) => 64 * MIB,
        }
    }

    /// Prepares a model. Takes as long as its weights take to copy, and needs
    /// as much stack as [`Engine::worker_stack_bytes`] says.
    ///
    /// # Errors
    /// For a file that this engine cannot run, naming what it stumbled over.
    pub fn load(
        &self,
        model: &[u8],
        external: &dyn ExternalData,
        limits: &Limits,
    ) -> Result<Program, LoadError> {
        match self.device {
            Device::Cpu => {
                let device = burn_flex::FlexDevice;
                Program::load::<burn_flex::Flex>(device, model, external, limits, self.optimize)
            }
            #[cfg(feature = "cuda")]
            Device::Cuda(index) => {
                let device = burn::backend::cuda::CudaDevice::new(index);
                Program::load::<burn::backend::Cuda>(device, model, external, limits, self.optimize)
            }
            #[cfg(feature = "vulkan")]
            Device::Vulkan(index) => {
                let device = probe::vulkan_device(index);
                Program::load::<burn::backend::Vulkan>(
                    device,
                    model,
                    external,
                    limits,
                    self.optimize,
                )
            }
            // The probe of a device that is not compiled in never succeeds.
            #[cfg(not(all(feature = "cuda", feature = "vulkan")))]
            _ => Err(LoadError::NoDevice { device: self.device }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_read_and_written() {
        for text in ["auto", "cpu"] {
            assert_eq!(text.parse::<DeviceChoice>().unwrap().to_string(), text);
        }
        for text in ["", "gpu", "cpu:0", "auto:1", "cuda:", "cuda:x", "cuda:-1", "vulkan:1:2"] {
            assert!(text.parse::<DeviceChoice>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_device_that_is_not_compiled_in_names_its_feature() {
        for (kind, compiled) in
            [("cuda", cfg!(feature = "cuda")), ("vulkan", cfg!(feature = "vulkan"))]
        {
            match kind.parse::<DeviceChoice>() {
                Ok(choice) => assert!(compiled, "{choice}"),
                Err(error) => {
                    assert!(!compiled);
                    assert!(error.to_string().contains(&format!("--features {kind}")));
                }
            }
        }
    }

    #[test]
    fn the_cpu_is_always_there() {
        let engine = Engine::new(DeviceChoice::Cpu).unwrap();
        assert_eq!((engine.device().to_string().as_str(), engine.fallback()), ("cpu", None));
    }

    #[test]
    fn auto_says_why_it_fell_back() {
        let engine = Engine::new(DeviceChoice::Auto).unwrap();
        assert_eq!(engine.fallback().is_some(), *engine.device() == Device::Cpu);
    }
}
