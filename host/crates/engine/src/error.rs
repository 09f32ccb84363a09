use std::error::Error;
use std::fmt;
use std::sync::Arc;

use ingle_types::{Code, DType, SignatureError, TensorError};

use crate::describe::element_name;
use crate::device::Device;
use crate::literal::LiteralError;

/// Which node of a graph an error is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeLabel {
    /// The node's name, or its place in the graph where it has none.
    pub node: String,
    pub operator: String,
    /// Empty for ONNX's own domain.
    pub domain: String,
    /// The version of the domain that the model asks for.
    pub opset: i64,
}

impl fmt::Display for NodeLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let domain = if self.domain.is_empty() { "ai.onnx" } else { &self.domain };
        write!(
            f,
            "node \"{}\" (operator {}, domain {domain}, opset {})",
            self.node, self.operator, self.opset
        )
    }
}

/// How a model can fail to load.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("the file is not an ONNX model")]
    Decode(#[source] prost::DecodeError),
    #[error("the file holds protobuf groups, which no ONNX model does")]
    Group,
    #[error("the model's graph takes more than the limit of {limit} bytes")]
    Parts { limit: usize },
    #[error("the model holds no graph")]
    NoGraph,
    #[error("IR version {version} is not supported; this engine reads 3 to {newest}")]
    IrVersion { version: i64, newest: i64 },
    #[error("the model imports no opset")]
    NoOpset,
    #[error("opset {version} is not supported; this engine knows ai.onnx up to {newest}")]
    Opset { version: i64, newest: i64 },
    #[error("the graph has {nodes} nodes, above the limit of {limit}")]
    Nodes { nodes: usize, limit: usize },
    #[error("{label} calls a function of the model more than {limit} calls deep")]
    FunctionDepth { label: Arc<NodeLabel>, limit: usize },
    #[error("the model defines the function \"{name}\" twice")]
    FunctionTwice { name: String },
    #[error("{label} gives {given} {what} to a function that has {expected}")]
    FunctionCall { label: Arc<NodeLabel>, what: &'static str, given: usize, expected: usize },
    #[error("initializer \"{name}\" is sparse; sparse tensors are not supported")]
    Sparse { name: String },
    #[error("\"{name}\" is {given}; only tensors are supported as inputs and outputs")]
    ValueKind { name: String, given: &'static str },
    #[error("\"{name}\" has ONNX element type {}, which is not supported", element_name(*.element))]
    Element { name: String, element: i32 },
    #[error("the value \"{name}\" is defined twice")]
    Duplicate { name: String },
    #[error("{label} reads \"{name}\", which nothing produces")]
    Dangling { label: Arc<NodeLabel>, name: String },
    #[error("nothing produces the graph output \"{name}\"")]
    Output { name: String },
    #[error("{label} is part of a cycle")]
    Cycle { label: Arc<NodeLabel> },
    #[error("{label} is not supported: the model imports no opset of that domain")]
    Domain { label: Arc<NodeLabel> },
    #[error("{}", unknown_operators(.labels))]
    Operators { labels: Vec<Arc<NodeLabel>> },
    #[error("{label}: {reason}")]
    Build { label: Arc<NodeLabel>, reason: BuildError },
    #[error("tensor \"{name}\": {reason}")]
    Literal { name: String, reason: LiteralError },
    #[error("tensor \"{name}\": {reason}")]
    Constant { name: String, reason: OpError },
    #[error("{label} cannot be computed: {reason}")]
    Fold {
        label: Arc<NodeLabel>,
        reason: OpError,
        #[source]
        cause: Option<PanicText>,
    },
    #[error("the model's constants take {bytes} bytes, above the limit of {limit}")]
    TooManyConstants { bytes: usize, limit: usize },
    #[error("the device {device} is not compiled in")]
    NoDevice { device: Device },
    #[error("{}", .errors.iter().map(Self::to_string).collect::<Vec<_>>().join("; "))]
    Several { errors: Vec<Self> },
    #[error("the model made the engine fail while it was loaded")]
    Panicked { source: PanicText },
}

impl LoadError {
    /// How many problems of a model are looked for at most.
    pub(crate) const MOST: usize = 50;

    /// One error of many, of which there is at least one.
    pub(crate) fn several(mut errors: Vec<Self>) -> Self {
        match errors.pop() {
            Some(only) if errors.is_empty() => only,
            last => Self::Several { errors: errors.into_iter().chain(last).collect() },
        }
    }

    /// Each problem by itself: an operator that is not known for each node that has it.
    pub fn problems(&self) -> Vec<String> {
        match self {
            Self::Several { errors } => errors.iter().flat_map(Self::problems).collect(),
            Self::Operators { labels } => {
                let alone = |label: &Arc<NodeLabel>| unknown_operators(std::slice::from_ref(label));
                labels.iter().map(alone).collect()
            }
            _ => vec![self.to_string()],
        }
    }

    pub fn code(&self) -> Code {
        match self {
            Self::IrVersion { .. }
            | Self::Opset { .. }
            | Self::Sparse { .. }
            | Self::ValueKind { .. }
            | Self::Element { .. }
            | Self::Domain { .. }
            | Self::Operators { .. }
            | Self::NoDevice { .. } => Code::Unimplemented,
            Self::Parts { .. }
            | Self::Nodes { .. }
            | Self::FunctionDepth { .. }
            | Self::TooManyConstants { .. } => Code::ResourceExhausted,
            Self::Build { reason, .. } => reason.code(),
            Self::Literal { reason, .. } => reason.code(),
            Self::Constant { reason, .. } | Self::Fold { reason, .. } => reason.code(),
            Self::Several { errors } => errors.first().map_or(Code::Unimplemented, Self::code),
            Self::Panicked { .. } => Code::Internal,
            Self::Decode(_)
            | Self::Group
            | Self::NoGraph
            | Self::NoOpset
            | Self::FunctionTwice { .. }
            | Self::FunctionCall { .. }
            | Self::Duplicate { .. }
            | Self::Dangling { .. }
            | Self::Output { .. }
            | Self::Cycle { .. } => Code::InvalidArgument,
        }
    }
}

/// How a node's attributes, inputs and outputs can fail to make an operator.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("attribute \"{name}\" is missing")]
    Missing { name: &'static str },
    #[error("attribute \"{name}\" is given twice")]
    Duplicate { name: String },
    #[error("attribute \"{name}\" is not of type {expected}")]
    Type { name: String, expected: &'static str },
    #[error("attribute \"{name}\" is not known to this operator")]
    Unknown { name: String },
    #[error("attribute \"{name}\": {reason}")]
    Value { name: &'static str, reason: &'static str },
    #[error("{what} is not supported")]
    Unsupported { what: &'static str },
    #[error("it has {given} inputs; this operator takes {}", range(*.least, *.most))]
    Inputs { given: usize, least: usize, most: usize },
    #[error("it has {given} outputs, but this operator makes at most {most}")]
    Outputs { given: usize, most: usize },
    #[error("attribute \"{name}\": {reason}")]
    Literal { name: String, reason: LiteralError },
    #[error("attribute \"{name}\": {reason}")]
    Graph { name: &'static str, reason: Box<LoadError> },
}

impl BuildError {
    pub fn code(&self) -> Code {
        match self {
            Self::Unsupported { .. } | Self::Outputs { .. } => Code::Unimplemented,
            Self::Literal { reason, .. } => reason.code(),
            Self::Graph { reason, .. } => reason.code(),
            _ => Code::InvalidArgument,
        }
    }
}

/// Why an operator rejects the tensors that reach it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum OpError {
    #[error("input {index} is missing")]
    Missing { index: usize },
    #[error("{what} must be {expected}, not {given}")]
    DType { what: &'static str, expected: &'static str, given: DType },
    #[error("{what} is {given}; a tensor is expected")]
    Kind { what: &'static str, given: &'static str },
    #[error("inputs of types {left} and {right} do not go together")]
    DTypes { left: DType, right: DType },
    #[error("{what} cannot be a tensor of shape {dims:?}")]
    Dims { what: &'static str, dims: Vec<usize> },
    #[error("shapes {left:?} and {right:?} do not go together: {what}")]
    Mismatch { what: &'static str, left: Vec<usize>, right: Vec<usize> },
    #[error("axis {axis} is outside of a tensor of rank {rank}")]
    Axis { axis: i64, rank: usize },
    #[error("index {index} is outside of a dimension of size {size}")]
    Index { index: i64, size: usize },
    #[error("the string {text:?} is not {wanted}")]
    Text { text: String, wanted: &'static str },
    #[error("{what} cannot be {value}")]
    Value { what: &'static str, value: i64 },
    #[error("shape {dims:?} cannot become {target:?}")]
    Reshape { dims: Vec<usize>, target: Vec<i64> },
    #[error("a division by zero")]
    DivisionByZero,
    #[error("a tensor of shape {dims:?} would be larger than the limit of {limit} bytes")]
    TooLarge { dims: Vec<usize>, limit: usize },
    #[error("its tensors together would take more than the limit of {limit} bytes")]
    Memory { limit: usize },
    #[error("it would run more than {limit} steps")]
    Steps { limit: usize },
    #[error("its constants take too long to compute")]
    Late,
    #[error("{what} is not supported")]
    Unsupported { what: &'static str },
    #[error("the device cannot compute with {dtype} elements")]
    DeviceDType { dtype: DType },
    #[error("{label}: {reason}")]
    Inner { label: Arc<NodeLabel>, reason: Box<OpError> },
    #[error("the device failed")]
    Device { source: PanicText },
}

impl OpError {
    pub fn code(&self) -> Code {
        match self {
            Self::TooLarge { .. } | Self::Memory { .. } | Self::Steps { .. } | Self::Late => {
                Code::ResourceExhausted
            }
            Self::Unsupported { .. } | Self::DeviceDType { .. } => Code::Unimplemented,
            Self::Device { .. } => Code::Internal,
            Self::Inner { reason, .. } => reason.code(),
            _ => Code::InvalidArgument,
        }
    }

    /// About a string, of which no more than its beginning is repeated.
    pub(crate) fn text(text: &[u8], wanted: &'static str) -> Self {
        const LENGTH: usize = 40;
        Self::Text { text: String::from_utf8_lossy(text).chars().take(LENGTH).collect(), wanted }
    }

    /// What the device said, for the log.
    pub(crate) fn device_text(&self) -> Option<PanicText> {
        match self {
            Self::Device { source } => Some(source.clone()),
            Self::Inner { reason, .. } => reason.device_text(),
            _ => None,
        }
    }
}

/// How a run can fail.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Signature(#[from] SignatureError),
    #[error("input \"{name}\" is larger than the limit of {limit} bytes")]
    InputSize { name: String, limit: usize },
    #[error("input \"{name}\": {reason}")]
    Input { name: String, reason: OpError },
    #[error("{label}: {reason}")]
    Node {
        label: Arc<NodeLabel>,
        reason: OpError,
        #[source]
        cause: Option<PanicText>,
    },
    #[error("output \"{name}\" is {given} although the model declares {declared}")]
    OutputType { name: String, declared: DType, given: DType },
    #[error("output \"{name}\" could not be read")]
    Output { name: String, source: OpError },
    #[error("output \"{name}\" has no form that can be answered")]
    Tensor { name: String, source: TensorError },
    #[error("the model made the engine fail{}", at(.label.as_deref()))]
    Panicked { label: Option<Arc<NodeLabel>>, source: PanicText },
}

impl RunError {
    pub fn code(&self) -> Code {
        match self {
            Self::Signature(_) => Code::InvalidArgument,
            Self::InputSize { .. } => Code::ResourceExhausted,
            Self::Input { reason, .. } | Self::Node { reason, .. } => reason.code(),
            Self::Output { source, .. } => source.code(),
            Self::OutputType { .. } | Self::Tensor { .. } | Self::Panicked { .. } => Code::Internal,
        }
    }
}

/// Each operator once, with its first node and the number of the others.
fn unknown_operators(labels: &[Arc<NodeLabel>]) -> String {
    const MOST: usize = 50;
    let mut firsts: Vec<(&NodeLabel, usize)> = Vec::new();
    let mut beyond = 0;
    for label in labels {
        let same = |l: &NodeLabel| (&l.operator, &l.domain) == (&label.operator, &label.domain);
        let full = firsts.len() == MOST;
        match firsts.iter_mut().find(|(first, _)| same(first)) {
            Some((_, count)) => *count += 1,
            None if full => beyond += 1,
            None => firsts.push((label, 1)),
        }
    }
    let text = |(label, count): (&NodeLabel, usize)| match count {
        1 => format!("{label} is not supported: unknown operator"),
        _ => format!("{label} and {} more are not supported: unknown operator", count - 1),
    };
    let mut parts: Vec<String> = firsts.into_iter().map(text).collect();
    if beyond > 0 {
        parts.push(format!("{beyond} more nodes have yet other unknown operators"));
    }
    parts.join("; ")
}

fn range(least: usize, most: usize) -> String {
    if most == usize::MAX { format!("{least} or more") } else { format!("{least} to {most}") }
}

fn at(label: Option<&NodeLabel>) -> String {
    label.map(|label| format!(" at {label}")).unwrap_or_default()
}

/// What Burn said when it gave up: for the log, never for a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PanicText(pub(crate) String);

impl PanicText {
    pub(crate) fn from_payload(payload: &(dyn std::any::Any + Send)) -> Self {
        let text = payload
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| payload.downcast_ref::<&str>().copied());
        Self(text.unwrap_or("a panic without a message").to_owned())
    }
}

impl fmt::Display for PanicText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for PanicText {}
