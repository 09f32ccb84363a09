use std::collections::{HashMap, HashSet};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ingle_types::{Limits, Signature, Tensor, TensorMap};

use crate::context::Context;
use crate::external::{ExternalData, ReadOnce};
use crate::graph::{self, Functions, Opsets};
use crate::kernels::Kernels;
use crate::literal::Literals;
use crate::ops::{NEWEST_OPSET, Registry};
use crate::passes::{Optimize, optimize};
use crate::plan::{Plan, StepError};
use crate::proto::{self, GraphProto, ModelProto};
use crate::signature::signature_of;
use crate::value::Value;
use crate::{LoadError, Observer, PanicText, RunError};

/// The newest version of the file format that is read.
const NEWEST_IR: i64 = 13;
const OLDEST_IR: i64 = 3;
/// Before this version every initializer had to be listed as an input, without
/// being one that a request may give.
const OVERRIDES_IR: i64 = 4;

/// A model prepared on a device. Runs may overlap.
pub struct Program {
    signature: Signature,
    opset: i64,
    weights_bytes: usize,
    tensor_bytes: usize,
    runner: Box<dyn Runner>,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program")
            .field("signature", &self.signature)
            .field("opset", &self.opset)
            .field("weights_bytes", &self.weights_bytes)
            .finish_non_exhaustive()
    }
}

impl Program {
    pub(crate) fn load<B: Kernels>(
        device: B::Device,
        model: &[u8],
        external: &dyn ExternalData,
        limits: &Limits,
        level: Optimize,
    ) -> Result<Self, LoadError> {
        let load = || Self::compile::<B>(device, model, external, limits, level);
        catch_unwind(AssertUnwindSafe(load)).unwrap_or_else(|payload| {
            Err(LoadError::Panicked { source: PanicText::from_payload(&*payload) })
        })
    }

    fn compile<B: Kernels>(
        device: B::Device,
        model: &[u8],
        external: &dyn ExternalData,
        limits: &Limits,
        level: Optimize,
    ) -> Result<Self, LoadError> {
        let model = proto::decode(model, limits.tensor_bytes)?;
        let opsets = opsets_of(&model)?;
        let opset = opsets.version("").unwrap_or_default();
        let functions = Functions::new(model.functions, opsets, limits.tensor_bytes)?;
        let mut proto = model.graph.ok_or(LoadError::NoGraph)?;
        if model.ir_version < OVERRIDES_IR {
            drop_initialized_inputs(&mut proto);
        }
        let signature = signature_of(&proto);
        let external = ReadOnce::new(external);
        let literals = Literals { external: &external, tensor_bytes: limits.tensor_bytes };
        let graph = graph::build(proto, &functions, literals, limits.graph_nodes)?;
        let registry = Registry::new();
        let (signature, known) = match (signature, registry.check(&graph)) {
            (Err(kind), Err(operators)) => return Err(LoadError::several(vec![kind, operators])),
            both => both,
        };
        known?;
        let signature = signature?;
        let ctx = Context::<B>::new(device, limits);
        let graph = match level {
            Optimize::On => optimize(graph, &signature.inputs, &registry, &ctx.renewed()),
            Optimize::Off => graph,
        };
        let plan = Plan::compile(&graph, &registry, &ctx)?;
        let inputs = signature.inputs.iter().map(|spec| spec.name.clone()).collect();
        Ok(Self {
            signature,
            opset,
            weights_bytes: plan.constant_bytes(),
            tensor_bytes: limits.tensor_bytes,
            runner: Box::new(Compiled { plan, inputs, ctx }),
        })
    }

    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// The version of ONNX's own operators that the model was written for.
    pub fn opset(&self) -> i64 {
        self.opset
    }

    /// What weights and other constants take on the device, in bytes.
    pub fn weights_bytes(&self) -> usize {
        self.weights_bytes
    }

    /// Runs the model and waits for the answer. `outputs` names the outputs to
    /// compute; empty = all.
    ///
    /// Needs as much stack as [`crate::Engine::worker_stack_bytes`] says.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for tensors that do not fit the signature or, naming the
    /// node, an operator; INTERNAL where Burn gave up.
    pub fn run(&self, inputs: &TensorMap, outputs: &[String]) -> Result<TensorMap, RunError> {
        self.run_with(inputs, outputs, None)
    }

    /// As [`Program::run`], of all outputs, where `observer` sees each step. Waits for
    /// the device after each, so the whole takes longer than a run that is not watched.
    ///
    /// # Errors
    /// As [`Program::run`].
    pub fn run_watched(
        &self,
        inputs: &TensorMap,
        observer: Arc<dyn Observer>,
    ) -> Result<TensorMap, RunError> {
        self.run_with(inputs, &[], Some(observer))
    }

    fn run_with(
        &self,
        inputs: &TensorMap,
        outputs: &[String],
        observer: Option<Arc<dyn Observer>>,
    ) -> Result<TensorMap, RunError> {
        self.signature.check_names(inputs)?;
        self.signature.check_output_filter(outputs)?;
        let specs = &self.signature.inputs;
        let given: Vec<Option<&Tensor>> = specs.iter().map(|s| inputs.get(&s.name)).collect();
        for (spec, tensor) in specs.iter().zip(&given) {
            let Some(tensor) = tensor else { continue };
            spec.check(tensor)?;
            if tensor.size_bytes() > self.tensor_bytes {
                let (name, limit) = (spec.name.clone(), self.tensor_bytes);
                return Err(RunError::InputSize { name, limit });
            }
        }
        let specs = &self.signature.outputs;
        let wanted = |name: &String| outputs.is_empty() || outputs.contains(name);
        let wanted: Vec<bool> = specs.iter().map(|spec| wanted(&spec.name)).collect();
        let mut answer = TensorMap::new();
        for (spec, tensor) in specs.iter().zip(self.runner.run(&given, &wanted, observer)?) {
            let Some(tensor) = tensor else { continue };
            let tensor =
                tensor.map_err(|source| RunError::Output { name: spec.name.clone(), source })?;
            if tensor.dtype() != spec.dtype {
                return Err(RunError::OutputType {
                    name: spec.name.clone(),
                    declared: spec.dtype,
                    given: tensor.dtype(),
                });
            }
            answer.insert(spec.name.clone(), tensor);
        }
        Ok(answer)
    }
}

fn drop_initialized_inputs(graph: &mut GraphProto) {
    let initialized: HashSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    graph.input.retain(|input| !initialized.contains(input.name.as_str()));
}

fn opsets_of(model: &ModelProto) -> Result<Opsets, LoadError> {
    let version = model.ir_version;
    if !(OLDEST_IR..=NEWEST_IR).contains(&version) {
        return Err(LoadError::IrVersion { version, newest: NEWEST_IR });
    }
    let mut opsets: HashMap<String, i64> = HashMap::new();
    for import in &model.opset_import {
        let domain = graph::domain_of(&import.domain).to_owned();
        let known = opsets.entry(domain).or_insert(import.version);
        *known = import.version.max(*known);
    }
    match opsets.get("") {
        None if opsets.is_empty() => Err(LoadError::NoOpset),
        Some(&version) if !(1..=NEWEST_OPSET).contains(&version) => {
            Err(LoadError::Opset { version, newest: NEWEST_OPSET })
        }
        _ => Ok(Opsets(opsets)),
    }
}

type Answer = Vec<Option<Result<Tensor, crate::OpError>>>;

/// A plan with its backend's type forgotten.
trait Runner: Send + Sync {
    fn run(
        &self,
        inputs: &[Option<&Tensor>],
        wanted: &[bool],
        observer: Option<Arc<dyn Observer>>,
    ) -> Result<Answer, RunError>;
}

struct Compiled<B: Kernels> {
    plan: Plan<B>,
    /// The names of the inputs, in the order of the signature.
    inputs: Vec<String>,
    ctx: Context<B>,
}

impl<B: Kernels> Runner for Compiled<B> {
    fn run(
        &self,
        inputs: &[Option<&Tensor>],
        wanted: &[bool],
        observer: Option<Arc<dyn Observer>>,
    ) -> Result<Answer, RunError> {
        const NOWHERE: usize = usize::MAX;
        let at = AtomicUsize::new(NOWHERE);
        let ctx = self.ctx.watched(observer);
        let run = || self.run_at(&ctx, inputs, wanted, &at);
        catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|payload| {
            let label = self.plan.label(at.load(Ordering::Relaxed)).cloned();
            Err(RunError::Panicked { label, source: PanicText::from_payload(&*payload) })
        })
    }
}

impl<B: Kernels> Compiled<B> {
    fn run_at(
        &self,
        ctx: &Context<B>,
        inputs: &[Option<&Tensor>],
        wanted: &[bool],
        at: &AtomicUsize,
    ) -> Result<Answer, RunError> {
        let place = |(name, tensor): (&String, &Option<&Tensor>)| {
            let Some(tensor) = tensor else { return Ok(None) };
            Value::from_tensor(ctx, tensor)
                .map(Some)
                .map_err(|reason| RunError::Input { name: name.clone(), reason })
        };
        let values = self.inputs.iter().zip(inputs).map(place).collect::<Result<Vec<_>, _>>()?;
        let outputs = self.plan.run(ctx, values, Some(wanted), Some(at)).map_err(
            |StepError { label, reason }| RunError::Node {
                label,
                cause: reason.device_text(),
                reason,
            },
        )?;
        Ok(outputs.into_iter().map(|v| v.map(|v| v.into_tensor(ctx))).collect())
    }
}

#[cfg(test)]
mod tests;
