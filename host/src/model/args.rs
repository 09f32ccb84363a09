//! Arguments that the commands share.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use ingle_engine::{DeviceChoice, Optimize};

#[derive(Clone, Debug, Args)]
pub(super) struct CommonArgs {
    /// Where models run: auto, cpu, cuda[:N] or vulkan[:N].
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub(super) device: DeviceChoice,

    /// Whether the model is optimised first, as a server does, or run node by node.
    #[arg(long, value_enum, default_value_t)]
    pub(super) optimize: OnOff,

    /// Text for people, or JSON for scripts.
    #[arg(long, value_enum, default_value_t)]
    pub(super) format: Format,
}

impl CommonArgs {
    pub(super) fn optimize(&self) -> Optimize {
        match self.optimize {
            OnOff::On => Optimize::On,
            OnOff::Off => Optimize::Off,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    #[default]
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum OnOff {
    #[default]
    On,
    Off,
}

/// `image=1,3,224,224`; `x=` is a scalar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NamedShape {
    pub(super) name: String,
    pub(super) dims: Vec<usize>,
}

impl FromStr for NamedShape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, dims) = pair(text).ok_or("write NAME=SIZE,SIZE,... as in image=1,3,224,224")?;
        let sizes = dims.split([',', 'x']).filter(|_| !dims.is_empty()).map(str::trim);
        let dims: Result<Vec<usize>, _> = sizes.map(str::parse).collect();
        let dims = dims.map_err(|_| format!("\"{text}\" has a size that is no number"))?;
        Ok(Self { name: name.to_owned(), dims })
    }
}

impl fmt::Display for NamedShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dims: Vec<String> = self.dims.iter().map(usize::to_string).collect();
        write!(f, "{}={}", self.name, dims.join(","))
    }
}

/// `image=photo.npy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NamedFile {
    pub(super) name: String,
    pub(super) file: PathBuf,
}

impl FromStr for NamedFile {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match pair(text) {
            Some((name, file)) if !file.is_empty() => {
                Ok(Self { name: name.to_owned(), file: file.into() })
            }
            _ => Err("write NAME=FILE, as in image=photo.npy"),
        }
    }
}

/// Names of inputs may hold an equals sign, sizes and file names rarely do.
fn pair(text: &str) -> Option<(&str, &str)> {
    text.rsplit_once('=').filter(|(name, _)| !name.is_empty())
}

/// `2s`, `500ms`, `0.5s`, `1m`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let start = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(start);
    let scale = match unit {
        "ms" => 1e-3,
        "s" => 1.0,
        "m" | "min" => 60.0,
        _ => return Err(format!("\"{text}\" has no unit: write 500ms, 2s or 1m")),
    };
    let number: f64 = number.parse().map_err(|_| format!("\"{text}\" is no time, as 2s is"))?;
    Duration::try_from_secs_f64(number * scale).map_err(|e| format!("\"{text}\": {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_read_and_written() {
        let shape: NamedShape = "image=1,3,224".parse().unwrap();
        assert_eq!((shape.name.as_str(), &shape.dims[..]), ("image", &[1, 3, 224][..]));
        assert_eq!(shape.to_string(), "image=1,3,224");
        assert_eq!("a=b=2x3".parse::<NamedShape>().unwrap().name, "a=b");
        assert!("x=".parse::<NamedShape>().unwrap().dims.is_empty());
        for wrong in ["image", "=1", "x=-1", "x=1,", "x=a", "x=99999999999999999999"] {
            assert!(wrong.parse::<NamedShape>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn files_have_a_name_before_them() {
        let file: NamedFile = "x=a/b.npy".parse().unwrap();
        assert_eq!((file.name.as_str(), file.file), ("x", PathBuf::from("a/b.npy")));
        assert!("b.npy".parse::<NamedFile>().is_err());
        assert!("x=".parse::<NamedFile>().is_err());
    }

    #[test]
    fn times_have_a_unit() {
        assert_eq!(duration("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(duration("0.5s").unwrap(), Duration::from_millis(500));
        assert_eq!(duration("2m").unwrap(), Duration::from_secs(120));
        for wrong in ["2", "s", "-1s", "1h", "infs", ""] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
