//! Where the server listens: ports, and a socket in the file system.

use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::{fs, io};

use anyhow::{Context, ensure};
use ingle_wire::{Listener, Tls};
use tokio::net::{TcpSocket, UnixSocket};

use crate::config::Config;

/// Connections that the kernel holds until they are accepted.
const ACCEPT_QUEUE: u32 = 1024;

/// What is bound, and does not listen yet.
pub(crate) struct Sockets {
    grpc: Option<TcpSocket>,
    grpc_socket: Option<Bound>,
    rest: Option<TcpSocket>,
    admin: Option<TcpSocket>,
    grpc_tls: Option<Tls>,
    rest_tls: Option<Tls>,
}

/// What listens. Dropped, the socket's file is removed.
pub(crate) struct Listeners {
    pub(crate) grpc: Vec<Listener>,
    pub(crate) rest: Option<Listener>,
    pub(crate) file: Option<SocketFile>,
}

struct Bound {
    socket: UnixSocket,
    file: SocketFile,
}

/// Ours to remove.
pub(crate) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Where somebody took it away before, that is what was wanted.
        let _ = fs::remove_file(&self.0);
    }
}

impl Sockets {
    /// Takes the addresses, so that one in use is told at once.
    pub(crate) fn bind(config: &Config) -> anyhow::Result<Self> {
        let grpc_socket = config.grpc_socket.as_deref().map(|path| {
            let flag = || format!("--grpc_socket_path={}: cannot listen", path.display());
            bind_file(path).with_context(flag)
        });
        Ok(Self {
            grpc: bind_port(config.grpc, "--port")?,
            grpc_socket: grpc_socket.transpose()?,
            rest: bind_port(config.rest, "--rest_api_port")?,
            admin: bind_port(config.admin.as_ref().map(|admin| admin.address), "--admin_port")?,
            grpc_tls: config.grpc_tls.clone(),
            rest_tls: config.rest_tls.clone(),
        })
    }

    /// Listens to operators, who may want to see models that are still loading.
    pub(crate) fn listen_to_operators(&mut self) -> io::Result<Option<Listener>> {
        let Some(socket) = self.admin.take() else { return Ok(None) };
        let listener = socket.listen(ACCEPT_QUEUE)?;
        let address = listener.local_addr()?;
        tracing::info!("listening to operators at {address}");
        Ok(Some(Listener::from(listener)))
    }

    /// Listens, and says so in the lines that scripts wait for.
    pub(crate) fn listen(self) -> io::Result<Listeners> {
        let (mut grpc, mut file) = (Vec::new(), None);
        if let Some(socket) = self.grpc {
            let listener = socket.listen(ACCEPT_QUEUE)?;
            let address = listener.local_addr()?;
            tracing::info!("Running gRPC ModelServer at {address} ...");
            grpc.push(Listener::from(listener).with_tls(self.grpc_tls.clone()));
        }
        if let Some(bound) = self.grpc_socket {
            let listener = bound.socket.listen(ACCEPT_QUEUE)?;
            tracing::info!("Running gRPC ModelServer at {} ...", bound.file.0.display());
            grpc.push(Listener::from(listener).with_tls(self.grpc_tls));
            file = Some(bound.file);
        }
        let rest = match self.rest {
            None => None,
            Some(socket) => {
                let listener = socket.listen(ACCEPT_QUEUE)?;
                let address = exported(listener.local_addr()?);
                tracing::info!("Exporting HTTP/REST API at:{address} ...");
                Some(Listener::from(listener).with_tls(self.rest_tls))
            }
        };
        Ok(Listeners { grpc, rest, file })
    }
}

/// As TensorFlow Serving writes an address that stands for all.
fn exported(address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        return format!("localhost:{}", address.port());
    }
    address.to_string()
}

fn bind_port(address: Option<SocketAddr>, flag: &str) -> anyhow::Result<Option<TcpSocket>> {
    let Some(address) = address else { return Ok(None) };
    let bound = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // A restart must not wait for the old process's connections to time out.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok::<_, io::Error>(socket)
    };
    bound().map(Some).with_context(|| format!("{flag}: cannot listen on {address}"))
}

fn bind_file(path: &Path) -> anyhow::Result<Bound> {
    remove_abandoned(path)?;
    let socket = UnixSocket::new_stream()?;
    socket.bind(path)?;
    Ok(Bound { socket, file: SocketFile(path.to_owned()) })
}

/// A server that was killed leaves its file behind. Nothing but a socket is removed, and
/// none on which somebody listens.
fn remove_abandoned(path: &Path) -> anyhow::Result<()> {
    let Ok(found) = path.symlink_metadata() else { return Ok(()) };
    ensure!(found.file_type().is_socket(), "there is a file that is no socket");
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).context("the abandoned socket cannot be removed")
        }
        Err(error) => Err(error).context("there is a socket already"),
        Ok(_) => anyhow::bail!("somebody listens there already"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn only_an_abandoned_socket_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("grpc");
        assert!(remove_abandoned(&path).is_ok());
        let listener = UnixListener::bind(&path).unwrap();
        let refused = |path: &Path| remove_abandoned(path).unwrap_err().to_string();
        assert_eq!(refused(&path), "somebody listens there already");
        drop(listener);
        assert!(remove_abandoned(&path).is_ok() && !path.exists());
        fs::write(&path, "mine").unwrap();
        assert_eq!(refused(&path), "there is a file that is no socket");
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }

    #[tokio::test]
    async fn the_socket_is_there_while_it_is_listened_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("grpc");
        let bound = bind_file(&path).unwrap();
        assert_eq!(
            UnixStream::connect(&path).unwrap_err().kind(),
            io::ErrorKind::ConnectionRefused,
            "an open socket means ready"
        );
        let listener = bound.socket.listen(1).unwrap();
        assert!(UnixStream::connect(&path).is_ok());
        drop((listener, bound.file));
        assert!(!path.exists());
    }
}
