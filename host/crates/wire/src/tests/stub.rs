use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ingle_types::{
    BoxFuture, Code, DEFAULT_SIGNATURE, DType, ModelReadiness, ModelSpec, PredictRequest, Servable,
    Serve, ServeError, Signature, SignatureError, Stage, TensorMap, TensorSpec, Version,
    VersionChoice, VersionState, VersionStatus,
};
use tokio::sync::Semaphore;

/// What a stub does with its inputs.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Answers with the inputs, under the same names.
    Echo,
    /// Answers with these, whatever it is given.
    Say(TensorMap),
    Fail(Code),
    Panic,
    /// Echoes once it has a permit; `entered` gets one when a request waits.
    Wait {
        entered: Arc<Semaphore>,
        go: Arc<Semaphore>,
    },
}

/// One loaded version.
#[derive(Debug)]
pub(crate) struct Stub {
    name: String,
    signatures: BTreeMap<String, Arc<Signature>>,
    act: Act,
}

impl Stub {
    /// A model with these inputs, of unknown rank, and as many outputs.
    pub(crate) fn new(name: &str, inputs: &[(&str, DType)], act: Act) -> Self {
        let spec = |&(name, dtype): &(&str, DType)| TensorSpec {
            name: name.into(),
            dtype,
            shape: None,
            optional: name.starts_with("optional"),
        };
        let specs: Vec<_> = inputs.iter().map(spec).collect();
        let signature = Signature { inputs: specs.clone(), outputs: specs, ..Signature::default() };
        let signatures = BTreeMap::from([
            (DEFAULT_SIGNATURE.to_owned(), Arc::new(signature.clone())),
            ("other".to_owned(), Arc::new(signature)),
            ("none".to_owned(), Arc::new(Signature::default())),
        ]);
        Self { name: name.into(), signatures, act }
    }

    /// Adds a signature, or replaces it.
    pub(crate) fn signature(
        mut self,
        name: &str,
        inputs: Vec<TensorSpec>,
        outputs: Vec<TensorSpec>,
    ) -> Self {
        let signature = Signature { inputs, outputs, ..Signature::default() };
        self.signatures.insert(name.to_owned(), Arc::new(signature));
        self
    }
}

fn invalid(error: SignatureError) -> ServeError {
    ServeError::invalid(Stage::Decode, error.to_string())
}

impl Servable for Stub {
    fn model(&self) -> &str {
        &self.name
    }

    fn version(&self) -> Version {
        1
    }

    fn signatures(&self) -> &BTreeMap<String, Arc<Signature>> {
        &self.signatures
    }

    fn default_signature(&self) -> &str {
        DEFAULT_SIGNATURE
    }

    fn predict(&self, request: PredictRequest) -> BoxFuture<'_, Result<TensorMap, ServeError>> {
        Box::pin(async move {
            let signature = &self.signatures[&request.signature];
            signature.check_names(&request.inputs).map_err(invalid)?;
            for (name, tensor) in &request.inputs {
                signature.input(name).unwrap().check(tensor).map_err(invalid)?;
            }
            let mut outputs = match &self.act {
                Act::Echo => request.inputs,
                Act::Say(outputs) => outputs.clone(),
                Act::Fail(code) => {
                    return Err(ServeError::new(*code, Stage::Run, "as told").with_source("why"));
                }
                Act::Panic => panic!("as told"),
                Act::Wait { entered, go } => {
                    entered.add_permits(1);
                    go.acquire().await.unwrap().forget();
                    request.inputs
                }
            };
            if !request.output_filter.is_empty() {
                outputs.retain(|name, _| request.output_filter.contains(name));
            }
            Ok(outputs)
        })
    }
}

/// Models by name; version 1 of each is available and labelled `stable`.
#[derive(Default)]
pub(crate) struct Stubs {
    models: BTreeMap<String, Arc<Stub>>,
    /// Configured, but never loaded, until they are.
    waiting: BTreeMap<String, Arc<AtomicBool>>,
}

impl Stubs {
    /// An echo for each dtype by its name, `two` with the inputs `a` and `b`, and
    /// `maybe` with one that may be left out.
    pub(crate) fn echoes() -> Self {
        let two = Stub::new("two", &[("a", DType::F32), ("b", DType::I32)], Act::Echo);
        let maybe = Stub::new("maybe", &[("a", DType::F32), ("optional", DType::I32)], Act::Echo);
        DType::ALL
            .into_iter()
            .map(|dtype| Stub::new(dtype.name(), &[("x", dtype)], Act::Echo))
            .fold(Self::default(), Self::with)
            .with(two)
            .with(maybe)
    }

    pub(crate) fn with(mut self, stub: Stub) -> Self {
        self.models.insert(stub.name.clone(), Arc::new(stub));
        self
    }

    /// A model that is ready while `ready` is.
    pub(crate) fn with_readiness(mut self, name: &str, ready: &Arc<AtomicBool>) -> Self {
        self.waiting.insert(name.into(), ready.clone());
        self
    }
}

fn not_found(message: String) -> ServeError {
    ServeError::new(Code::NotFound, Stage::Route, message)
}

impl Serve for Stubs {
    fn resolve(&self, model: &ModelSpec) -> Result<Arc<dyn Servable>, ServeError> {
        let name = &model.name;
        match &model.version {
            VersionChoice::Label(label) if label != "stable" => {
                let message = format!("Unrecognized servable version label: {label}");
                Err(ServeError::invalid(Stage::Route, message))
            }
            VersionChoice::Specific(version) if *version != 1 => Err(not_found(format!(
                "Servable not found for request: Specific({name}, {version})"
            ))),
            _ => match self.models.get(name) {
                Some(stub) => Ok(stub.clone()),
                None => Err(not_found(format!("Servable not found for request: Latest({name})"))),
            },
        }
    }

    fn status(
        &self,
        model: &str,
        version: Option<Version>,
    ) -> Result<Vec<VersionStatus>, ServeError> {
        let row = |version, state, code, message: &str| VersionStatus {
            version,
            state,
            code,
            message: message.into(),
        };
        let rows = [
            row(2, VersionState::End, Some(Code::Internal), "it \"broke\""),
            row(1, VersionState::Available, None, ""),
        ];
        let known = self.models.contains_key(model);
        let asked = |row: &VersionStatus| known && version.is_none_or(|v| v == row.version);
        let rows: Vec<_> = rows.into_iter().filter(asked).collect();
        match version {
            _ if !rows.is_empty() => Ok(rows),
            Some(version) => {
                Err(not_found(format!("Could not find version {version} of model {model}")))
            }
            None => Err(not_found(format!("Could not find any versions of model {model}"))),
        }
    }

    fn models(&self) -> Vec<ModelReadiness> {
        let loaded = self.models.keys().map(|name| (name, true));
        let waiting = self.waiting.iter().map(|(name, ready)| (name, ready.load(Ordering::SeqCst)));
        let all: BTreeMap<_, _> = loaded.chain(waiting).collect();
        let readiness = |(name, ready): (&String, bool)| ModelReadiness {
            name: name.clone(),
            available: if ready { vec![1] } else { Vec::new() },
        };
        all.into_iter().map(readiness).collect()
    }
}
