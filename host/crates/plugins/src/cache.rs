//! Compiled components on disk, so that a restart does not compile again.
//!
//! This is the one module with unsafe code. What it loads runs as native code outside
//! the sandbox, so it loads only what this server wrote: files in a directory that is
//! ours and that nobody else can write, each with the digest of its contents. Anything
//! else is a miss, and the component is compiled again.
#![expect(unsafe_code, reason = "machine code from a file cannot be checked by the compiler")]

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use ingle_types::Limits;
use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

/// Names the layout of a file: this line, the digest of the rest, the rest.
const MAGIC: &[u8; 24] = b"ingle compiled plugin 1\n";

/// Files that end otherwise are not ours, even in this directory.
const COMPLETE: &str = "cwasm";
const PARTIAL: &str = "cwasm-partial";

/// Files that this process has begun to write.
static PARTIALS: AtomicU64 = AtomicU64::new(0);

pub(crate) type Sha256Digest = [u8; 32];

#[derive(Debug)]
pub(crate) struct Cache {
    dir: PathBuf,
    owner: u32,
    /// Version and settings of the compiler: another one's code is another entry.
    compiler: Sha256Digest,
    max_bytes: u64,
}

impl Cache {
    /// # Errors
    /// Where the directory cannot be made ours alone.
    pub(crate) fn open(dir: &Path, engine: &Engine, limits: &Limits) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let found = fs::symlink_metadata(dir)?;
        let refuse = |why| Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        if !found.is_dir() {
            return refuse("the plugin cache is not a directory");
        }
        if found.mode() & 0o022 != 0 {
            return refuse("the plugin cache is writable by others");
        }
        let owner = own_user(dir)?;
        if found.uid() != owner {
            return refuse("the plugin cache belongs to another user");
        }
        let mut compiler = HashInto(Sha256::new());
        engine.precompile_compatibility_hash().hash(&mut compiler);
        let compiler = compiler.0.finalize().into();
        Ok(Self { dir: dir.to_owned(), owner, compiler, max_bytes: limits.plugin_cache_bytes })
    }

    /// The component compiled from the file with this digest; `None` where it is not
    /// there, or is not what was stored.
    pub(crate) fn load(&self, engine: &Engine, wasm: &Sha256Digest) -> Option<Component> {
        let path = self.path(wasm);
        let file = self.read(&path).inspect_err(|reason| {
            if reason.kind() != io::ErrorKind::NotFound {
                tracing::warn!(%reason, "a compiled plugin cannot be read");
            }
        });
        let file = file.ok()?;
        let Some(code) = intact(&file) else {
            tracing::warn!("a compiled plugin is damaged and is built again");
            let _ = fs::remove_file(&path);
            return None;
        };
        // SAFETY: `Component::deserialize` runs `code` as it is. Its digest says that it
        // is what `store` wrote, from `Component::serialize` of an engine with the same
        // compiler (part of the path, and checked again by wasmtime). Nobody but this
        // user could have put another file with a fitting digest there: the directory
        // was ours and closed to others when it was opened, and so is the file. The
        // bytes are in our memory by now, so a later change of the file cannot matter.
        let component = unsafe { Component::deserialize(engine, code) };
        component
            .inspect_err(|reason| tracing::warn!(%reason, "a compiled plugin is built again"))
            .ok()
    }

    /// Keeps `component` for the next start. Failing to is logged and costs nothing else.
    pub(crate) fn store(&self, wasm: &Sha256Digest, component: &Component) {
        let stored = component
            .serialize()
            .map_err(|error| io::Error::other(error.to_string()))
            .and_then(|code| self.write(&self.path(wasm), &code))
            .and_then(|()| self.prune());
        if let Err(reason) = stored {
            tracing::warn!(%reason, "a compiled plugin is not cached");
        }
    }

    fn path(&self, wasm: &Sha256Digest) -> PathBuf {
        let key = Sha256::new().chain_update(wasm).chain_update(self.compiler).finalize();
        self.dir.join(hex(&key.into())).with_extension(COMPLETE)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = File::open(path)?;
        let found = file.metadata()?;
        if !found.is_file() || found.uid() != self.owner || found.len() > self.max_bytes {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a file of this cache"));
        }
        let mut bytes = Vec::new();
        (&file).take(found.len()).read_to_end(&mut bytes)?;
        // The least recently used is pruned first.
        let _ = file.set_modified(SystemTime::now());
        Ok(bytes)
    }

    /// Whoever reads sees the whole file or none: it gets its name when it is complete.
    fn write(&self, path: &Path, code: &[u8]) -> io::Result<()> {
        let unique = PARTIALS.fetch_add(1, Ordering::Relaxed);
        let temporary = path.with_extension(format!("{}-{unique}.{PARTIAL}", std::process::id()));
        let _ = fs::remove_file(&temporary);
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        let written = file
            .write_all(MAGIC)
            .and_then(|()| file.write_all(&Sha256::digest(code)))
            .and_then(|()| file.write_all(code))
            .and_then(|()| fs::rename(&temporary, path));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    fn prune(&self) -> io::Result<()> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            if !is_entry(&entry.path()) {
                continue;
            }
            let found = entry.metadata()?;
            entries.push((found.modified()?, found.len(), entry.path()));
        }
        entries.sort_unstable_by(|a, b| b.cmp(a));
        let mut kept = 0u64;
        for (_, bytes, path) in entries {
            kept = kept.saturating_add(bytes);
            if kept > self.max_bytes {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

/// The user that this process makes files as.
fn own_user(dir: &Path) -> io::Result<u32> {
    let probe = dir.join(format!("probe.{}.{PARTIAL}", std::process::id()));
    let _ = fs::remove_file(&probe);
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&probe)?;
    let owner = file.metadata()?.uid();
    fs::remove_file(&probe)?;
    Ok(owner)
}

fn is_entry(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == COMPLETE || end == PARTIAL)
}

fn intact(file: &[u8]) -> Option<&[u8]> {
    let (digest, code) = file.strip_prefix(MAGIC)?.split_first_chunk::<32>()?;
    let actual: Sha256Digest = Sha256::digest(code).into();
    (actual == *digest).then_some(code)
}

pub(crate) fn hex(digest: &Sha256Digest) -> String {
    use std::fmt::Write as _;
    digest.iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Feeds what is hashed to SHA-256: the standard hashers are not stable on disk.
struct HashInto(Sha256);

impl Hasher for HashInto {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        0
    }
}
