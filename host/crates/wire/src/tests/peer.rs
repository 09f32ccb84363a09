use bytes::Bytes;
use http::{HeaderMap, Request, Version};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::http::Duplex;
use super::server::Server;

pub(super) const PREDICT: &str = "/tensorflow.serving.PredictionService/Predict";

/// gRPC by hand: what is sent is exactly what the test says.
pub(super) struct Peer {
    sender: SendRequest<Full<Bytes>>,
}

impl Peer {
    pub(super) async fn connect(server: &Server) -> Self {
        let stream = TcpStream::connect(server.grpc).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream).await
    }

    pub(super) async fn over(stream: impl Duplex + 'static) -> Self {
        let (sender, connection) =
            handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self { sender }
    }

    /// The HTTP status and the gRPC status.
    pub(super) async fn call(&mut self, request: Request<Full<Bytes>>) -> (u16, Option<i32>) {
        let response = self.sender.send_request(request).await.unwrap();
        let (head, body) = response.into_parts();
        let status = |headers: &HeaderMap| headers.get("grpc-status")?.to_str().ok()?.parse().ok();
        let in_head = status(&head.headers);
        let trailers = body.collect().await.unwrap().trailers().cloned().unwrap_or_default();
        (head.status.as_u16(), in_head.or_else(|| status(&trailers)))
    }

    pub(super) async fn send(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Option<i32> {
        let (http, grpc) = self.call(post(path, headers, body)).await;
        assert_eq!(http, 200);
        grpc
    }
}

pub(super) fn post(path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Request<Full<Bytes>> {
    let mut request = Request::post(format!("http://test{path}")).version(Version::HTTP_2);
    request = request.header("content-type", "application/grpc").header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::new(body.into())).unwrap()
}

pub(super) fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap();
    [&[flag], &length.to_be_bytes()[..], message].concat()
}
