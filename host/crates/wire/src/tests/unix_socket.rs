use prost::Message as _;
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use super::grpc::{one, predict, spec};
use super::http::Http;
use super::limits::hasty;
use super::peer::{PREDICT, Peer, framed};
use super::server::wire;
use super::stub::Stubs;

#[tokio::test]
async fn grpc_answers_on_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("grpc");
    let listener = UnixListener::bind(&path).unwrap();
    let (wire, stop) = (wire(Stubs::echoes(), hasty()), CancellationToken::new());
    let stopped = stop.clone();
    let served = tokio::spawn(async move { wire.serve_grpc(listener, stopped).await });
    let mut silent = Http::over(UnixStream::connect(&path).await.unwrap());
    let mut peer = Peer::over(UnixStream::connect(&path).await.unwrap()).await;
    let request = predict(spec("float"), &[("x", one(&[0.5; 1000]))]);
    let body = framed(0, &request.encode_to_vec());
    assert_eq!(peer.send(PREDICT, &[], body).await, Some(0));
    silent.closed().await;
    stop.cancel();
    assert!(served.await.unwrap().is_ok());
    assert!(UnixStream::connect(&path).await.is_err());
}
