use std::fs::File;
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::NamedTempFile;

/// The folder of the workspace.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The binary that is tested.
pub(crate) fn binary() -> PathBuf {
    let binary = workspace().join("target/release/ingle");
    assert!(binary.is_file(), "cargo build --release first: {} is missing", binary.display());
    binary
}

/// A running `ingle`, stopped when dropped.
pub struct Server {
    child: Child,
    pub grpc: SocketAddr,
    pub rest: SocketAddr,
    log: NamedTempFile,
}

/// Starting takes long only where the machine is busy.
const START: Duration = Duration::from_secs(120);

impl Server {
    /// Starts the binary with `flags` and waits until its ports are open.
    pub fn start(flags: &[String]) -> Self {
        let mut server = Self::launch(flags, &[]);
        server.wait_until_ready();
        server
    }

    /// Starts the binary without waiting.
    pub fn launch(flags: &[String], environment: &[(&str, &str)]) -> Self {
        let [grpc, rest] = free_ports();
        let log = NamedTempFile::new().unwrap();
        let child = Command::new(binary())
            .args(["--bind_address=127.0.0.1", "--log_format=json"])
            .args([format!("--port={}", grpc.port()), format!("--rest_api_port={}", rest.port())])
            .args(flags)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.reopen().unwrap())
            .spawn()
            .unwrap();
        Self { child, grpc, rest, log }
    }

    pub fn wait_until_ready(&mut self) {
        let until = Instant::now() + START;
        let open = |address| TcpStream::connect(address).is_ok();
        while !(open(self.grpc) && open(self.rest)) {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the server ended with {status}:\n{}", self.log());
            }
            assert!(Instant::now() < until, "the server is not ready:\n{}", self.log());
            sleep(Duration::from_millis(10));
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What the server has logged so far.
    pub fn log(&self) -> String {
        let mut text = String::new();
        File::open(self.log.path()).unwrap().read_to_string(&mut text).unwrap();
        text
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }

    /// Waits for the process to end.
    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// Waits for a process that is to end by itself.
    pub fn wait_for_exit(&mut self, at_most: Duration) -> Option<ExitStatus> {
        let until = Instant::now() + at_most;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Some(status);
            }
            sleep(Duration::from_millis(10));
        }
        None
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _: io::Result<_> = self.child.wait();
    }
}

fn free_ports() -> [SocketAddr; 2] {
    let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let listeners = [bind(), bind()];
    listeners.map(|listener| listener.local_addr().unwrap())
}
