//! The life of a request behind its handle: preprocess → run → postprocess.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use std::{io, slice};

use bytes::Bytes;
use ingle_batching::{Admission, AdmissionError, QueueError, Workers, WorkersConfig};
use ingle_engine::{Program, RunError};
use ingle_plugins::{CallContext, PluginError, Postprocessor, Preprocessor};
use ingle_telemetry::{Metrics, StageTimes};
use ingle_types::{
    Code, Deadline, Dim, Limits, PredictRequest, ServeError, Signature, SignatureError, Stage,
    Tensor, TensorMap, TensorSpec,
};

use crate::examples::{Examples, can_batch, join, stack, unstack};
use crate::pace::Pace;
use crate::servable::Call;

/// The threads on which requests run. Async threads wait for them, and run themselves what
/// is quick.
pub struct Executors {
    /// Whether async threads have the stack that programs need.
    run_here: bool,
    engine: Workers,
    plugins: Workers,
    limits: Arc<Limits>,
    metrics: Metrics,
}

/// Stack of the threads that requests are on, which quick models may run on.
pub const REQUEST_STACK_BYTES: usize = 8 * 1024 * 1024;

/// Sandboxed code runs on the caller's stack, below the host's own frames.
const PLUGIN_HOST_STACK_BYTES: usize = 2 * 1024 * 1024;

impl Executors {
    /// `engine_threads` run models, `plugin_threads` plugins; `engine_stack_bytes` is what
    /// the engine asks of threads that run it.
    ///
    /// # Errors
    /// Where a thread cannot be started.
    pub fn start(
        limits: Arc<Limits>,
        metrics: Metrics,
        engine_threads: usize,
        plugin_threads: usize,
        engine_stack_bytes: usize,
    ) -> io::Result<Self> {
        let workers = |name, threads, stack_bytes| {
            let queue_length = limits.queue_length;
            let stack_bytes = Some(stack_bytes);
            Workers::start(&WorkersConfig { name, threads, stack_bytes, queue_length })
        };
        let plugin_stack = limits.plugin_stack_bytes + PLUGIN_HOST_STACK_BYTES;
        Ok(Self {
            run_here: engine_stack_bytes <= REQUEST_STACK_BYTES,
            engine: workers("engine", engine_threads, engine_stack_bytes)?,
            plugins: workers("plugin", plugin_threads, plugin_stack)?,
            limits,
            metrics,
        })
    }
}

/// One signature of one version: what surrounds the program, and what clients see.
pub(crate) struct Pipeline {
    pub(crate) name: Arc<str>,
    /// As published, with batch dimensions.
    pub(crate) signature: Arc<Signature>,
    pub(crate) program: Arc<Program>,
    /// `None` = its requests are not to be joined.
    pub(crate) admission: Option<Admission>,
    pub(crate) preprocess: Option<Arc<Preprocessor>>,
    pub(crate) postprocess: Option<Arc<Postprocessor>>,
    pub(crate) pace: Pace,
    /// Set by the first request.
    pub(crate) times: OnceLock<StageTimes>,
}

/// A request's examples on their way to the model.
struct Prepared {
    /// For each of the client's examples: the model's inputs, one or several.
    examples: Vec<Vec<TensorMap>>,
    /// For each of the client's examples: what goes past the model.
    carry: Vec<Bytes>,
    batched: bool,
}

impl Pipeline {
    pub(crate) async fn run(
        &self,
        executors: &Executors,
        call: Call,
        request: PredictRequest,
    ) -> Result<TensorMap, ServeError> {
        self.signature.check_names(&request.inputs).map_err(refused)?;
        self.signature.check_output_filter(&request.output_filter).map_err(refused)?;
        let deadline = request.deadline;
        let named = || executors.metrics.stages(&call.model, call.version, &self.name);
        let times = self.times.get_or_init(named);
        if self.preprocess.is_none() && self.postprocess.is_none() {
            self.check_model_inputs(&request.inputs)?;
            return self
                .execute(executors, times, deadline, request.inputs, request.output_filter)
                .await;
        }
        let context = CallContext {
            request_id: call.request_id,
            model: call.model,
            version: call.version,
            signature: self.name.clone(),
            deadline,
        };
        let prepared = match &self.preprocess {
            Some(plugin) => {
                let work = preprocess(executors, plugin, &context, &request.inputs);
                timed(times, Stage::Preprocess, work).await?
            }
            None => {
                self.examples_as_sent(&request.inputs, executors.limits.examples_per_request)?
            }
        };
        let Prepared { examples, carry, batched } = prepared;
        let counts: Vec<_> = examples.iter().map(Vec::len).collect();
        let flat = examples.into_iter().flatten().collect();
        let mut results = self.run_examples(executors, times, deadline, flat).await?.into_iter();
        let results: Vec<Vec<TensorMap>> =
            counts.into_iter().map(|n| results.by_ref().take(n).collect()).collect();
        let mut answers = match &self.postprocess {
            Some(plugin) => {
                let work = postprocess(executors, plugin, &context, results, carry);
                timed(times, Stage::Postprocess, work).await?
            }
            None => results.into_iter().flatten().collect(),
        };
        if !request.output_filter.is_empty() {
            for answer in &mut answers {
                answer.retain(|name, _| request.output_filter.contains(name));
            }
        }
        join(answers, batched)
    }

    /// Without a preprocessor the client sends what the model takes.
    fn examples_as_sent(&self, inputs: &TensorMap, limit: usize) -> Result<Prepared, ServeError> {
        self.check_model_inputs(inputs)?;
        let specs: Vec<_> =
            self.signature.inputs.iter().map(crate::examples::without_batch).collect();
        let Examples { inputs, batched } = Examples::split(&specs, inputs, limit)?;
        Ok(Prepared {
            carry: vec![Bytes::new(); inputs.len()],
            examples: inputs.into_iter().map(|example| vec![example]).collect(),
            batched,
        })
    }

    fn check_model_inputs(&self, inputs: &TensorMap) -> Result<(), ServeError> {
        let specs = &self.program.signature().inputs;
        specs
            .iter()
            .filter_map(|spec| Some((spec, inputs.get(&spec.name)?)))
            .try_for_each(|(spec, tensor)| spec.check(tensor))
            .map_err(refused)
    }

    /// Runs examples as one batch where they fit together, else one by one.
    async fn run_examples(
        &self,
        executors: &Executors,
        times: &StageTimes,
        deadline: Deadline,
        examples: Vec<TensorMap>,
    ) -> Result<Vec<TensorMap>, ServeError> {
        for example in &examples {
            self.check_prepared(example)?;
        }
        let model = self.program.signature();
        let batches: Vec<&[TensorMap]> = if can_batch(model, &examples) {
            vec![examples.as_slice()]
        } else {
            examples.iter().map(slice::from_ref).collect()
        };
        let mut results = Vec::with_capacity(examples.len());
        for batch in batches {
            let inputs = stack(batch).map_err(|e| {
                ServeError::new(Code::Internal, Stage::Run, "examples could not be joined")
                    .with_source(e)
            })?;
            let outputs = self.execute(executors, times, deadline, inputs, Vec::new()).await?;
            results.extend(unstack(&outputs, batch.len())?);
        }
        Ok(results)
    }

    /// What a preprocessor made has to be what the model takes. Names and dtypes are
    /// the plugin's promise; a shape may follow from what the client sent.
    fn check_prepared(&self, example: &TensorMap) -> Result<(), ServeError> {
        let Some(plugin) = &self.preprocess else { return Ok(()) };
        let name = &plugin.info().name;
        let contract = |what| {
            PluginError::contract(name, Stage::Preprocess, what).into_serve_error(Stage::Preprocess)
        };
        let model = self.program.signature();
        model.check_names(example).map_err(|e| contract(e.to_string()))?;
        for (spec, tensor) in model.inputs.iter().filter_map(|s| Some((s, example.get(&s.name)?))) {
            match crate::examples::without_batch(spec).check(tensor) {
                Ok(()) => {}
                Err(e @ SignatureError::Shape { .. }) => {
                    let text =
                        format!("plugin {name} made an example that the model cannot take: {e}");
                    return Err(ServeError::invalid(Stage::Preprocess, text));
                }
                Err(e) => return Err(contract(e.to_string())),
            }
        }
        Ok(())
    }

    async fn execute(
        &self,
        executors: &Executors,
        times: &StageTimes,
        deadline: Deadline,
        inputs: TensorMap,
        outputs: Vec<String>,
    ) -> Result<TensorMap, ServeError> {
        let size = || task_size(self.program.signature(), &inputs);
        let place = self.admission.as_ref().map(|admission| admission.admit(size())).transpose();
        let place = place.map_err(not_admitted)?;
        let bytes = inputs.values().map(Tensor::size_bytes).sum();
        // With batching requests are to meet in the queue.
        let here = executors.run_here && place.is_none() && self.pace.is_quick(bytes);
        // The queue refuses what is late.
        if here && !deadline.passed() {
            return self.run_here(times, &inputs, &outputs);
        }
        let program = self.program.clone();
        let queued = Instant::now();
        let run = move || {
            // It does not wait any more.
            drop(place);
            let begun = Instant::now();
            (program.run(&inputs, &outputs), begun - queued, begun.elapsed())
        };
        let answer = executors.engine.run(deadline, run).await;
        let (answer, waited, elapsed) = answer.map_err(|e| queue_error(e, Stage::Run))?;
        times.observe(Stage::Queue, Some(waited));
        times.observe(Stage::Run, Some(elapsed));
        self.pace.ran_on_worker(bytes, elapsed);
        answer.map_err(run_error)
    }

    /// Runs what is over before a worker would have begun.
    fn run_here(
        &self,
        times: &StageTimes,
        inputs: &TensorMap,
        outputs: &[String],
    ) -> Result<TensorMap, ServeError> {
        let begun = Instant::now();
        let answer = self.program.run(inputs, outputs);
        let elapsed = begun.elapsed();
        self.pace.ran_here(elapsed);
        times.observe(Stage::Queue, Some(Duration::ZERO));
        times.observe(Stage::Run, Some(elapsed));
        answer.map_err(run_error)
    }
}

/// Does a stage's work, and takes its time where it succeeds.
async fn timed<T>(
    times: &StageTimes,
    stage: Stage,
    work: impl Future<Output = Result<T, ServeError>>,
) -> Result<T, ServeError> {
    let begun = Instant::now();
    let done = work.await?;
    times.observe(stage, Some(begun.elapsed()));
    Ok(done)
}

/// The examples of what a model is given.
fn task_size(model: &Signature, inputs: &TensorMap) -> usize {
    let batched = |spec: &&TensorSpec| {
        spec.shape.as_ref().is_none_or(|shape| shape.first() == Some(&Dim::Any))
    };
    let sizes = model.inputs.iter().filter(batched).filter_map(|spec| {
        let tensor = inputs.get(&spec.name)?;
        tensor.dims().first().copied()
    });
    sizes.max().unwrap_or(1)
}

async fn preprocess(
    executors: &Executors,
    plugin: &Arc<Preprocessor>,
    context: &CallContext,
    inputs: &TensorMap,
) -> Result<Prepared, ServeError> {
    let limit = executors.limits.examples_per_request;
    let Examples { inputs, batched } = Examples::split(&plugin.info().public_spec, inputs, limit)?;
    let call = {
        let (plugin, context) = (plugin.clone(), context.clone());
        move |example: TensorMap| plugin.process(&context, &example)
    };
    let prepared = each(executors, context.deadline, Stage::Preprocess, inputs, call).await?;
    let (examples, carry) = prepared.into_iter().map(|p| (p.examples, p.carry)).unzip();
    Ok(Prepared { examples, carry, batched })
}

async fn postprocess(
    executors: &Executors,
    plugin: &Arc<Postprocessor>,
    context: &CallContext,
    results: Vec<Vec<TensorMap>>,
    carry: Vec<Bytes>,
) -> Result<Vec<TensorMap>, ServeError> {
    let call = {
        let (plugin, context) = (plugin.clone(), context.clone());
        move |(results, carry): (Vec<TensorMap>, Bytes)| plugin.process(&context, &results, &carry)
    };
    let jobs = results.into_iter().zip(carry).collect();
    each(executors, context.deadline, Stage::Postprocess, jobs, call).await
}

/// Calls a plugin for each example, spread over the workers. One job a worker, so
/// that a large batch takes no more of the queue than a small one.
async fn each<I, O, F>(
    executors: &Executors,
    deadline: Deadline,
    stage: Stage,
    mut items: Vec<I>,
    call: F,
) -> Result<Vec<O>, ServeError>
where
    I: Send + 'static,
    O: Send + 'static,
    F: Fn(I) -> Result<O, PluginError> + Clone + Send + 'static,
{
    let share = items.len().div_ceil(executors.plugins.threads()).max(1);
    let mut answers = Vec::new();
    while !items.is_empty() {
        let rest = items.split_off(share.min(items.len()));
        let (part, call) = (std::mem::replace(&mut items, rest), call.clone());
        let job = move || part.into_iter().map(call).collect::<Result<Vec<_>, _>>();
        let answer = executors.plugins.submit(deadline, job);
        answers.push(answer.map_err(|e| queue_error(e, stage))?);
    }
    let mut all = Vec::new();
    for answer in answers {
        let part = answer.await.map_err(|e| queue_error(e, stage))?;
        all.extend(part.map_err(|e| e.into_serve_error(stage))?);
    }
    Ok(all)
}

fn refused(error: SignatureError) -> ServeError {
    ServeError::invalid(Stage::Decode, error.to_string())
}

fn not_admitted(error: AdmissionError) -> ServeError {
    ServeError::new(error.code(), Stage::Queue, error.to_string())
}

fn queue_error(error: QueueError, stage: Stage) -> ServeError {
    let stage = if error == QueueError::Panicked { stage } else { Stage::Queue };
    ServeError::new(error.code(), stage, error.to_string())
}

fn run_error(error: RunError) -> ServeError {
    ServeError::new(error.code(), Stage::Run, error.to_string()).with_source(error)
}
