use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub(super) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Duplex for S {}

/// HTTP/1.1 by hand: what is sent is exactly what the test says.
pub(super) struct Http {
    stream: Box<dyn Duplex>,
    unread: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// In lower case.
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{}", self.text()))
    }

    pub(super) fn error(&self) -> String {
        self.json()["error"].as_str().unwrap_or_else(|| panic!("{}", self.text())).to_owned()
    }
}

impl Http {
    pub(super) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream)
    }

    pub(super) fn over(stream: impl Duplex + 'static) -> Self {
        Self { stream: Box::new(stream), unread: Vec::new() }
    }

    /// False where the server hung up meanwhile.
    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok() && self.stream.flush().await.is_ok()
    }

    pub(super) async fn request(&mut self, method: &str, path: &str, body: &[u8]) -> Answer {
        self.request_with(method, path, "", body).await
    }

    pub(super) async fn request_with(
        &mut self,
        method: &str,
        path: &str,
        headers: &str,
        body: &[u8],
    ) -> Answer {
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {length}\r\n\r\n"
        );
        self.send(head).await;
        self.send(body).await;
        self.answer(method == "HEAD").await.expect("an answer")
    }

    pub(super) async fn get(&mut self, path: &str) -> Answer {
        self.request("GET", path, b"").await
    }

    pub(super) async fn predict(&mut self, model: &str, body: impl AsRef<[u8]>) -> Answer {
        self.request("POST", &format!("/v1/models/{model}:predict"), body.as_ref()).await
    }

    /// The next answer, or `None` where the server closes the connection first.
    pub(super) async fn answer(&mut self, without_body: bool) -> Option<Answer> {
        let end = loop {
            if let Some(at) = self.unread.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            if !self.more().await {
                return None;
            }
        };
        let head: Vec<u8> = self.unread.drain(..end).collect();
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length = length.filter(|_| !without_body).map_or(0, |n| n.parse::<usize>().unwrap());
        while self.unread.len() < length {
            assert!(self.more().await, "the body is cut short: {head}");
        }
        Some(Answer { status, head, body: self.unread.drain(..length).collect() })
    }

    /// Returns once the server has closed the connection.
    pub(super) async fn closed(&mut self) {
        while self.more().await {}
    }

    async fn more(&mut self) -> bool {
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer).await {
            Ok(0) | Err(_) => false,
            Ok(n) => {
                self.unread.extend_from_slice(&buffer[..n]);
                true
            }
        }
    }
}
