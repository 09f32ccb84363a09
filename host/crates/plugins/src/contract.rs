use std::sync::Arc;

use wasmtime::component::types::{ComponentFunc, ComponentInstance, ComponentItem};
use wasmtime::component::{Component, ComponentNamedList, InstancePre, Lift, Linker, Lower, types};
use wasmtime::{Engine, StoreContextMut};

use crate::bindings::exports::ingle::plugin::{postprocess, preprocess};
use crate::bindings::ingle::plugin::types as wit;
use crate::error::one_line;
use crate::guest_log;
use crate::instance::State;
use crate::{CONTRACT_VERSION, PluginError};

const PACKAGE: &str = "ingle:plugin";

/// Imports that an error names one by one.
const NAMED_IMPORTS: usize = 16;

/// A name of a component, or a reason, in an error.
const TEXT_BYTES: usize = 256;

/// A component that keeps the contract, ready to be instantiated.
pub(crate) struct Checked {
    pub(crate) pre: InstancePre<State>,
    pub(crate) preprocess: Option<preprocess::GuestIndices>,
    pub(crate) postprocess: Option<postprocess::GuestIndices>,
}

/// Everything that a guest may call: the whole reach of a plugin.
///
/// # Errors
/// None in practice: the names are ours and differ.
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    let mut telemetry = linker.instance("ingle:plugin/telemetry@0.1.0")?;
    telemetry.func_wrap("log", |store: StoreContextMut<'_, State>, (level, message)| {
        guest_log::log(store, level, &message)
    })?;
    telemetry.func_wrap("enabled", |store: StoreContextMut<'_, State>, (level,)| {
        Ok((store.data().log.enabled(level),))
    })?;
    Ok(linker)
}

/// Checks what the component imports and exports, without running any of it.
///
/// # Errors
/// Names what is missing, of another version or of another type.
pub(crate) fn check(
    plugin: &Arc<str>,
    linker: &Linker<State>,
    component: &Component,
) -> Result<Checked, PluginError> {
    let subject = Subject { plugin, engine: linker.engine(), ty: component.component_type() };
    let preprocess = subject.stage("preprocess")?;
    let postprocess = subject.stage("postprocess")?;
    if preprocess.is_none() && postprocess.is_none() {
        return Err(PluginError::NoStage { plugin: plugin.clone() });
    }
    subject.check_imports()?;
    let wrong = |item: &str| {
        let (plugin, item) = (plugin.clone(), item.to_owned());
        move |error| PluginError::WrongType { plugin, item, reason: reason(&error) }
    };
    let pre = linker.instantiate_pre(component).map_err(wrong("an import"))?;
    if let Some(stage) = &preprocess {
        stage.check::<InitParams, InitResult>("init")?;
        stage.check::<PreprocessParams, PreprocessResult>("process")?;
    }
    if let Some(stage) = &postprocess {
        stage.check::<InitParams, InitResult>("init")?;
        stage.check::<PostprocessParams, PostprocessResult>("process")?;
    }
    let preprocess = preprocess.map(|_| preprocess::GuestIndices::new(&pre)).transpose();
    let postprocess = postprocess.map(|_| postprocess::GuestIndices::new(&pre)).transpose();
    Ok(Checked {
        preprocess: preprocess.map_err(wrong("an export"))?,
        postprocess: postprocess.map_err(wrong("an export"))?,
        pre,
    })
}

type InitParams = (wit::InitOptions<'static>,);
type InitResult = (Result<wit::PluginInfo, wit::Error>,);
type PreprocessParams = (wit::RequestContext<'static>, &'static [wit::TensorParam<'static>]);
type PreprocessResult = (Result<preprocess::Prepared, wit::Error>,);
type PostprocessParams =
    (wit::RequestContext<'static>, &'static [postprocess::ModelResult<'static>], &'static [u8]);
type PostprocessResult = (Result<Vec<wit::TensorResult>, wit::Error>,);

struct Subject<'a> {
    plugin: &'a Arc<str>,
    engine: &'a Engine,
    ty: types::Component,
}

/// The interface of a stage, as the component exports it.
struct StageExport<'a> {
    subject: &'a Subject<'a>,
    name: String,
    ty: ComponentInstance,
}

impl Subject<'_> {
    /// Other exports are none of our business: some toolchains leave their own behind.
    fn stage(&self, interface: &str) -> Result<Option<StageExport<'_>>, PluginError> {
        let mut other_version = None;
        for (name, export) in self.ty.exports(self.engine) {
            let Some((found, version)) = ours(name) else { continue };
            if found != interface {
                continue;
            }
            if !compatible(version) {
                other_version = Some(version);
                continue;
            }
            let ComponentItem::ComponentInstance(ty) = export.ty else {
                return Err(self.wrong_type(name, "not an interface"));
            };
            return Ok(Some(StageExport { subject: self, name: name.to_owned(), ty }));
        }
        other_version.map_or(Ok(None), |version| Err(self.built_for(version)))
    }

    fn check_imports(&self) -> Result<(), PluginError> {
        let mut forbidden = Vec::new();
        for (name, import) in self.ty.imports(self.engine) {
            match ours(name) {
                Some((_, version)) if !compatible(version) => return Err(self.built_for(version)),
                Some(("telemetry" | "types", _)) => {}
                _ if self.only_types(&import.ty) => {}
                _ => forbidden.push(one_line(name, TEXT_BYTES)),
            }
        }
        if forbidden.is_empty() {
            return Ok(());
        }
        if let Some(more @ 1..) = forbidden.len().checked_sub(NAMED_IMPORTS) {
            forbidden.truncate(NAMED_IMPORTS);
            forbidden.push(format!("{more} more"));
        }
        Err(PluginError::ForbiddenImport { plugin: self.plugin.clone(), imports: forbidden })
    }

    /// Types grant nothing, and toolchains import interfaces for their types alone.
    fn only_types(&self, item: &ComponentItem) -> bool {
        match item {
            ComponentItem::Type(_) => true,
            ComponentItem::ComponentInstance(instance) => {
                instance.exports(self.engine).all(|(_, export)| self.only_types(&export.ty))
            }
            _ => false,
        }
    }

    fn built_for(&self, version: Option<&str>) -> PluginError {
        let built_for = match version {
            Some(version) => format!("{PACKAGE} {}", one_line(version, TEXT_BYTES)),
            None => format!("{PACKAGE} without a version"),
        };
        let speaks = CONTRACT_VERSION;
        PluginError::ContractVersion { plugin: self.plugin.clone(), built_for, speaks }
    }

    fn wrong_type(&self, item: &str, reason: impl Into<String>) -> PluginError {
        let item = one_line(item, TEXT_BYTES);
        PluginError::WrongType { plugin: self.plugin.clone(), item, reason: reason.into() }
    }
}

impl StageExport<'_> {
    fn check<Params, Return>(&self, function: &str) -> Result<(), PluginError>
    where
        Params: ComponentNamedList + Lower,
        Return: ComponentNamedList + Lift,
    {
        let export = format!("{}#{function}", self.name);
        match self.ty.get_export(self.subject.engine, function).map(|export| export.ty) {
            None => Err(PluginError::MissingExport {
                plugin: self.subject.plugin.clone(),
                export: one_line(&export, TEXT_BYTES),
            }),
            Some(ComponentItem::ComponentFunc(func)) => {
                self.check_func::<Params, Return>(&export, &func)
            }
            Some(_) => Err(self.subject.wrong_type(&export, "not a function")),
        }
    }

    fn check_func<Params, Return>(
        &self,
        export: &str,
        func: &ComponentFunc,
    ) -> Result<(), PluginError>
    where
        Params: ComponentNamedList + Lower,
        Return: ComponentNamedList + Lift,
    {
        if func.async_() {
            return Err(self.subject.wrong_type(export, "async, but the contract is not"));
        }
        // The same check that each instantiation makes, made here to be refused at load.
        func.typecheck::<Params, Return>(&self.subject.ty.instance_type())
            .map_err(|error| self.subject.wrong_type(export, reason(&error)))
    }
}

/// `ingle:plugin/NAME@VERSION` → name and version.
fn ours(name: &str) -> Option<(&str, Option<&str>)> {
    let name = name.strip_prefix(PACKAGE)?.strip_prefix('/')?;
    Some(match name.split_once('@') {
        Some((name, version)) => (name, Some(version)),
        None => (name, None),
    })
}

/// Before 1.0 a minor version is a contract of its own; patches only add words.
fn compatible(version: Option<&str>) -> bool {
    let series = |version: &str| {
        let mut parts = version.split('.');
        Some((parts.next()?.to_owned(), parts.next()?.to_owned()))
    };
    version.is_some_and(|version| series(version) == series(CONTRACT_VERSION))
}

fn reason(error: &wasmtime::Error) -> String {
    one_line(&format!("{error:#}"), TEXT_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_package_are_taken_apart() {
        assert_eq!(ours("ingle:plugin/preprocess@0.3.0"), Some(("preprocess", Some("0.3.0"))));
        assert_eq!(ours("ingle:plugin/preprocess"), Some(("preprocess", None)));
        assert_eq!(ours("ingle:plugins/preprocess@0.1.0"), None);
        assert_eq!(ours("wasi:sockets/tcp@0.2.3"), None);
    }

    #[test]
    fn a_patch_of_the_contract_is_the_same_contract() {
        assert!(compatible(Some("0.1.0")) && compatible(Some("0.1.7")));
        assert!(!compatible(Some("0.2.0")) && !compatible(Some("1.1.0")));
        assert!(!compatible(Some("0")) && !compatible(Some("")) && !compatible(None));
    }
}
