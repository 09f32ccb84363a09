//! A graph compiled for a device, and the executor that runs it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ingle_types::Code;

use crate::context::Context;
use crate::graph::{Graph, Node, ValueId};
use crate::kernels::Kernels;
use crate::observe::{StepTensor, Watch};
use crate::ops::{Inputs, Op, Registry};
use crate::value::Value;
use crate::{LoadError, NodeLabel, OpError};

/// Steps in the order they run. What can be computed once was computed while
/// compiling, and every value is dropped at its last use.
pub(crate) struct Plan<B: Kernels> {
    steps: Vec<Step<B>>,
    constants: Vec<Value<B>>,
    /// Where the inputs go: the graph's own, then what it captures.
    inputs: Vec<ValueId>,
    /// The value of an input that is not given; in the order of `inputs`.
    defaults: Vec<Option<Value<B>>>,
    outputs: Vec<Source>,
    values: usize,
    /// What the steps themselves hold of constants, in bytes.
    held: usize,
}

struct Step<B: Kernels> {
    op: Box<dyn Op<B>>,
    label: Arc<NodeLabel>,
    inputs: Vec<Option<Source>>,
    /// How many of `inputs` the node names itself; captured values follow.
    own: usize,
    /// Inputs that the operator keeps in a form of its own, for those who watch.
    held: Vec<(usize, StepTensor)>,
    /// `None` where nothing reads the output.
    outputs: Vec<Option<ValueId>>,
}

#[derive(Clone, Copy)]
enum Source {
    Constant(usize),
    Value { id: ValueId, last: bool },
}

/// A step that failed.
pub(crate) struct StepError {
    pub(crate) label: Arc<NodeLabel>,
    pub(crate) reason: OpError,
}

impl<B: Kernels> Plan<B> {
    pub(crate) fn compile(
        graph: &Graph,
        registry: &Registry<B>,
        ctx: &Context<B>,
    ) -> Result<Self, LoadError> {
        let mut compiler = Compiler::new(graph, ctx)?;
        let mut unsupported = Vec::new();
        for node in &graph.nodes {
            match compiler.node(node, registry, ctx) {
                Ok(()) => {}
                // Whoever mends one wants to know of the others.
                Err(error) if error.code() == Code::Unimplemented => unsupported.push(error),
                Err(error) => return Err(error),
            }
            if unsupported.len() == LoadError::MOST {
                break;
            }
        }
        if unsupported.is_empty() {
            return Ok(compiler.finish(ctx));
        }
        Err(LoadError::several(unsupported))
    }

    /// What the constants take, in bytes.
    pub(crate) fn constant_bytes(&self) -> usize {
        let constants = self.constants.iter().chain(self.defaults.iter().flatten());
        constants.map(Value::size_bytes).fold(self.held, usize::saturating_add)
    }

    pub(crate) fn label(&self, step: usize) -> Option<&Arc<NodeLabel>> {
        self.steps.get(step).map(|step| &step.label)
    }

    /// Runs the steps that the wanted outputs need; an output that is not wanted
    /// is `None`. An input that is `None` takes its default. `at` follows the
    /// steps, for whoever has to say where a panic came from.
    pub(crate) fn run(
        &self,
        ctx: &Context<B>,
        inputs: Vec<Option<Value<B>>>,
        wanted: Option<&[bool]>,
        at: Option<&AtomicUsize>,
    ) -> Result<Vec<Option<Value<B>>>, StepError> {
        let wanted = |i: usize| wanted.is_none_or(|w| w.get(i).copied().unwrap_or(false));
        let needed = self.needed(&wanted);
        let mut memory = Memory::new(self.values, ctx.run_bytes());
        for ((&id, default), given) in self.inputs.iter().zip(&self.defaults).zip(inputs) {
            if let Some(value) = given.or_else(|| default.clone()) {
                memory.put(id, value);
            }
        }
        for (index, step) in self.steps.iter().enumerate() {
            if needed.as_ref().is_some_and(|n| n.get(index) != Some(&true)) {
                continue;
            }
            if let Some(at) = at {
                at.store(index, Ordering::Relaxed);
            }
            self.step(ctx, step, &mut memory)
                .map_err(|reason| StepError { label: step.label.clone(), reason })?;
        }
        let read = |(i, source): (usize, &Source)| match source {
            _ if !wanted(i) => None,
            Source::Constant(index) => self.constants.get(*index).cloned(),
            Source::Value { id, last: true } => memory.take(*id),
            Source::Value { id, last: false } => memory.get(*id),
        };
        Ok(self.outputs.iter().enumerate().map(read).collect())
    }

    fn step(
        &self,
        ctx: &Context<B>,
        step: &Step<B>,
        memory: &mut Memory<B>,
    ) -> Result<(), OpError> {
        ctx.step()?;
        let live = memory.bytes;
        let read = |source: &Option<Source>| match *source {
            None => None,
            Some(Source::Constant(index)) => self.constants.get(index).cloned(),
            Some(Source::Value { id, last: true }) => memory.take(id),
            Some(Source::Value { id, last: false }) => memory.get(id),
        };
        let inputs: Vec<_> = step.inputs.iter().map(read).collect();
        let own = inputs.get(..step.own).unwrap_or_default();
        let watch = ctx.observer().map(|by| Watch::start(by, own, &step.held, live));
        let outputs = compute(&*step.op, ctx, Inputs::new(inputs, step.own))?;
        if let Some(watch) = watch {
            watch.end(ctx, &step.label, &outputs)?;
        }
        let mut outputs = outputs.into_iter();
        for id in &step.outputs {
            match (*id, outputs.next()) {
                (Some(id), Some(value)) => memory.put(id, value),
                (Some(_), None) => return Err(OpError::Unsupported { what: "one of its outputs" }),
                (None, _) => {}
            }
        }
        memory.check()
    }

    /// The steps that lead to a wanted output; `None` = all.
    fn needed(&self, wanted: &impl Fn(usize) -> bool) -> Option<Vec<bool>> {
        if (0..self.outputs.len()).all(wanted) {
            return None;
        }
        let mut alive = vec![false; self.values];
        let mark = |alive: &mut Vec<bool>, source: &Source| {
            if let Source::Value { id, .. } = *source
                && let Some(alive) = alive.get_mut(id)
            {
                *alive = true;
            }
        };
        for (_, source) in self.outputs.iter().enumerate().filter(|(i, _)| wanted(*i)) {
            mark(&mut alive, source);
        }
        let mut needed = vec![false; self.steps.len()];
        for (step, needed) in self.steps.iter().zip(&mut needed).rev() {
            *needed = step.outputs.iter().flatten().any(|&id| alive.get(id) == Some(&true));
            if *needed {
                step.inputs.iter().flatten().for_each(|source| mark(&mut alive, source));
            }
        }
        Some(needed)
    }
}

/// Runs one operator. Scalars are brought to the host.
fn compute<B: Kernels>(
    op: &dyn Op<B>,
    ctx: &Context<B>,
    inputs: Inputs<B>,
) -> Result<Vec<Value<B>>, OpError> {
    op.run(ctx, inputs)?.into_iter().map(|value| value.settled(ctx)).collect()
}

/// The values of a run that are alive.
struct Memory<B: Kernels> {
    values: Vec<Option<Value<B>>>,
    bytes: usize,
    limit: usize,
}

impl<B: Kernels> Memory<B> {
    fn new(values: usize, limit: usize) -> Self {
        Self { values: std::iter::repeat_with(|| None).take(values).collect(), bytes: 0, limit }
    }

    fn put(&mut self, id: ValueId, value: Value<B>) {
        self.bytes = self.bytes.saturating_add(value.size_bytes());
        if let Some(slot) = self.values.get_mut(id) {
            *slot = Some(value);
        }
    }

    fn get(&self, id: ValueId) -> Option<Value<B>> {
        self.values.get(id).cloned().flatten()
    }

    fn take(&mut self, id: ValueId) -> Option<Value<B>> {
        let value = self.values.get_mut(id)?.take()?;
        self.bytes = self.bytes.saturating_sub(value.size_bytes());
        Some(value)
    }

    fn check(&self) -> Result<(), OpError> {
        if self.bytes > self.limit {
            return Err(OpError::Memory { limit: self.limit });
        }
        Ok(())
    }
}

struct Compiler<'a, B: Kernels> {
    graph: &'a Graph,
    /// The values that are known while compiling.
    known: Vec<Option<Value<B>>>,
    inputs: Vec<ValueId>,
    defaults: Vec<Option<Value<B>>>,
    steps: Vec<(Box<dyn Op<B>>, &'a Node)>,
    /// What the known values take.
    bytes: usize,
}

impl<'a, B: Kernels> Compiler<'a, B> {
    fn new(graph: &'a Graph, ctx: &Context<B>) -> Result<Self, LoadError> {
        let mut inputs = graph.inputs.clone();
        inputs.extend(graph.captures.iter().map(|capture| capture.value));
        let mut defaults: Vec<_> = inputs.iter().map(|_| None).collect();
        let mut known: Vec<_> = graph.values.iter().map(|_| None).collect();
        for (id, tensor) in &graph.constants {
            let value = Value::from_tensor(ctx, tensor).map_err(|reason| LoadError::Constant {
                name: graph.values.get(*id).cloned().unwrap_or_default(),
                reason,
            })?;
            // An initializer that a request may override is not constant.
            let slot = match inputs.iter().position(|input| input == id) {
                Some(input) => defaults.get_mut(input),
                None => known.get_mut(*id),
            };
            if let Some(slot) = slot {
                *slot = Some(value);
            }
        }
        let values = known.iter().chain(&defaults).flatten();
        let bytes = values.map(Value::size_bytes).fold(0, usize::saturating_add);
        Ok(Self { graph, known, inputs, defaults, steps: Vec::new(), bytes })
    }

    fn node(
        &mut self,
        node: &'a Node,
        registry: &Registry<B>,
        ctx: &Context<B>,
    ) -> Result<(), LoadError> {
        let op = registry.build(node, ctx)?;
        let mut reads = node.inputs.iter().flatten().chain(&node.captured);
        let constant = reads.all(|&id| self.is_known(id));
        if !constant || !op.is_pure() || ctx.is_late() {
            self.steps.push((op, node));
            return Ok(());
        }
        let get = |id: ValueId| self.known.get(id).cloned().flatten();
        let own = node.inputs.iter().map(|id| id.and_then(get));
        let inputs = own.chain(node.captured.iter().map(|&id| get(id))).collect();
        let outputs = match self.fold(&*op, ctx, Inputs::new(inputs, node.inputs.len())) {
            Ok(outputs) => outputs,
            Err(reason) if ctx.is_late() && reason.code() == OpError::Late.code() => {
                self.steps.push((op, node));
                return Ok(());
            }
            Err(reason) => {
                let (label, cause) = (node.label.clone(), reason.device_text());
                return Err(LoadError::Fold { label, cause, reason });
            }
        };
        for (id, value) in node.outputs.iter().zip(outputs) {
            self.bytes = self.bytes.saturating_add(value.size_bytes());
            if let Some(slot) = id.and_then(|id| self.known.get_mut(id)) {
                *slot = Some(value);
            }
        }
        if self.bytes > ctx.constant_bytes() {
            let (bytes, limit) = (self.bytes, ctx.constant_bytes());
            return Err(LoadError::TooManyConstants { bytes, limit });
        }
        Ok(())
    }

    fn fold(
        &self,
        op: &dyn Op<B>,
        ctx: &Context<B>,
        inputs: Inputs<B>,
    ) -> Result<Vec<Value<B>>, OpError> {
        ctx.step()?;
        compute(op, ctx, inputs)
    }

    fn is_known(&self, id: ValueId) -> bool {
        self.known.get(id).is_some_and(Option::is_some)
    }

    /// Keeps the constants that a step or an output reads, and notes last uses.
    fn finish(self, ctx: &Context<B>) -> Plan<B> {
        let Self { graph, known, inputs, defaults, steps, .. } = self;
        let mut sources =
            Sources { known, constants: Vec::new(), places: Vec::new(), used: Vec::new() };
        sources.places.resize(graph.values.len(), None);
        sources.used.resize(graph.values.len(), false);
        // Backwards too: the last that asks for a value gets it.
        let mut outputs: Vec<_> = graph.outputs.iter().rev().map(|&id| sources.of(id)).collect();
        outputs.reverse();
        let mut compiled: Vec<Step<B>> = Vec::with_capacity(steps.len());
        let mut held = 0usize;
        for (op, node) in steps.into_iter().rev() {
            let outputs = node.outputs.iter().map(|id| id.filter(|&id| sources.is_used(id)));
            let outputs: Vec<_> = outputs.collect();
            if outputs.iter().all(Option::is_none) {
                continue;
            }
            // Backwards, so that of two reads by one node the second is the last.
            let captured = node.captured.iter().rev().map(|&id| Some(id));
            let constants: Vec<_> =
                node.inputs.iter().map(|id| id.and_then(|id| sources.constant(id))).collect();
            let mut reads = node.inputs.clone();
            let mut holds = Vec::new();
            let op = match op.bind(ctx, &constants) {
                Some(bound) => {
                    held = held.saturating_add(bound.bytes);
                    for input in bound.holds {
                        reads.get_mut(input).map(Option::take);
                        let value = constants.get(input).and_then(Option::as_ref);
                        holds.extend(value.map(|value| (input, StepTensor::of(value))));
                    }
                    bound.op
                }
                None => op,
            };
            drop(constants);
            let reads = captured.chain(reads.into_iter().rev());
            let mut inputs: Vec<_> = reads.map(|id| id.map(|id| sources.of(id))).collect();
            inputs.reverse();
            let (label, own) = (node.label.clone(), node.inputs.len());
            compiled.push(Step { op, label, inputs, own, held: holds, outputs });
        }
        compiled.reverse();
        let constants = sources.constants.into_iter().map(Value::kept).collect();
        let values = graph.values.len();
        Plan { steps: compiled, constants, inputs, defaults, outputs, values, held }
    }
}

/// Hands out sources from the last reader to the first.
struct Sources<B: Kernels> {
    known: Vec<Option<Value<B>>>,
    constants: Vec<Value<B>>,
    places: Vec<Option<usize>>,
    used: Vec<bool>,
}

impl<B: Kernels> Sources<B> {
    fn of(&mut self, id: ValueId) -> Source {
        if let Some(&Some(index)) = self.places.get(id) {
            return Source::Constant(index);
        }
        if let Some(value) = self.known.get_mut(id).and_then(Option::take) {
            let index = self.constants.len();
            self.constants.push(value);
            if let Some(place) = self.places.get_mut(id) {
                *place = Some(index);
            }
            return Source::Constant(index);
        }
        let last = !self.is_used(id);
        if let Some(used) = self.used.get_mut(id) {
            *used = true;
        }
        Source::Value { id, last }
    }

    fn constant(&self, id: ValueId) -> Option<Value<B>> {
        match self.places.get(id) {
            Some(&Some(index)) => self.constants.get(index).cloned(),
            _ => self.known.get(id).cloned().flatten(),
        }
    }

    fn is_used(&self, id: ValueId) -> bool {
        self.used.get(id) == Some(&true)
    }
}
