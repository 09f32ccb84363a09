//! `componentize CORE.wasm OUT.wasm`: a core module that carries `component-type` sections
//! becomes a component, refused where it imports anything but the plugin contract.

use std::process::ExitCode;
use std::{env, fs};

use wasmparser::{Parser, Payload};
use wit_component::ComponentEncoder;

/// All that a plugin may import.
const CONTRACT: &str = "ingle:plugin/";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [core, out] = arguments.as_slice() else {
        eprintln!("usage: componentize CORE.wasm OUT.wasm");
        return ExitCode::from(64);
    };
    match componentize(core, out) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("componentize: {core}: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn componentize(core: &str, out: &str) -> Result<(), Box<dyn std::error::Error>> {
    let module = fs::read(core)?;
    let mut encoder = ComponentEncoder::default();
    encoder.validate(true).module(&module)?;
    let component = encoder.encode()?;
    let imports = imports(&component)?;
    if let Some(foreign) = imports.iter().find(|name| !name.starts_with(CONTRACT)) {
        return Err(format!("imports {foreign}, which no plugin is given").into());
    }
    fs::write(out, component)?;
    Ok(())
}

/// The names that the component itself imports, not those of the modules inside.
fn imports(component: &[u8]) -> Result<Vec<String>, wasmparser::BinaryReaderError> {
    let mut imports = Vec::new();
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(component) {
        match payload? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    imports.push(import?.name.name.to_string());
                }
            }
            _ => {}
        }
    }
    Ok(imports)
}
