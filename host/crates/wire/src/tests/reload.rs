//! HandleReloadConfigRequest.

use std::sync::{Arc, Mutex};

use ingle_types::{BoxFuture, Code, ServeError, Stage};

use super::server::Server;
use crate::Reload;
use crate::models_config::{ModelConfig, VersionPolicy};
use crate::proto::tensorflow::serving as pb;
use pb::model_server_config::Config;

/// Remembers the lists that it is given; refuses one with a model called "bad".
#[derive(Default)]
struct Lists(Mutex<Vec<Vec<ModelConfig>>>);

impl Reload for Lists {
    fn reload(&self, models: Vec<ModelConfig>) -> BoxFuture<'_, Result<(), ServeError>> {
        let bad = models.iter().any(|model| model.name == "bad");
        self.0.lock().unwrap().push(models);
        let message = "1 model(s) did not become available: {name: bad}";
        let refused = move || ServeError::new(Code::Unknown, Stage::Route, message);
        Box::pin(async move { if bad { Err(refused()) } else { Ok(()) } })
    }
}

fn model(name: &str) -> pb::ModelConfig {
    pb::ModelConfig {
        name: name.into(),
        base_path: format!("/models/{name}"),
        model_platform: "tensorflow".into(),
        version_labels: [("stable".to_owned(), 3)].into(),
        ..pb::ModelConfig::default()
    }
}

fn request(models: Vec<pb::ModelConfig>) -> pb::ReloadConfigRequest {
    let list = Config::ModelConfigList(pb::ModelConfigList { config: models });
    let config = Some(pb::ModelServerConfig { config: Some(list) });
    pb::ReloadConfigRequest { config, metric_names: vec!["/some/counter".into()] }
}

#[tokio::test]
async fn a_list_is_handed_on_and_answered_when_it_is_taken() {
    let lists = Arc::new(Lists::default());
    let server = Server::reloading(lists.clone()).await;
    let mut client = server.models().await;
    let answer = client.handle_reload_config_request(request(vec![model("one")])).await.unwrap();
    let answer = answer.into_inner();
    assert_eq!(answer.status, Some(pb::StatusProto::default()));
    assert_eq!(answer.metric.len(), 1);
    let one = ModelConfig {
        name: "one".into(),
        base_path: "/models/one".into(),
        policy: VersionPolicy::Latest(1),
        labels: [("stable".to_owned(), 3)].into(),
        platform: "tensorflow".into(),
        logging: None,
    };
    assert_eq!(*lists.0.lock().unwrap(), [vec![one]]);
    client.handle_reload_config_request(request(vec![])).await.unwrap();
    let many = (0..5000).map(|i| model(&format!("model-{i}"))).collect();
    client.handle_reload_config_request(request(many)).await.unwrap();
    let lengths: Vec<usize> = lists.0.lock().unwrap().iter().map(Vec::len).collect();
    assert_eq!(lengths, [1, 0, 5000]);
}

#[tokio::test]
async fn what_cannot_be_taken_is_the_calls_error() {
    let lists = Arc::new(Lists::default());
    let server = Server::reloading(lists.clone()).await;
    let mut client = server.models().await;
    let mut refused =
        async |request| client.handle_reload_config_request(request).await.unwrap_err();
    let status = refused(request(vec![model("bad")])).await;
    assert_eq!(status.code(), tonic::Code::Unknown);
    assert!(status.message().starts_with("1 model(s) did not become available"));
    let handed_on = lists.0.lock().unwrap().len();
    for (request, text) in [
        (pb::ReloadConfigRequest::default(), "ServerModelConfig type not supported by"),
        (request(vec![model("a"), model("a")]), "Illegal to list model a multiple times"),
        (
            request(vec![pb::ModelConfig { base_path: "here".into(), ..model("a") }]),
            "Expected model a to have an absolute path",
        ),
    ] {
        let status = refused(request).await;
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        assert!(status.message().starts_with(text), "{status}");
    }
    assert_eq!(lists.0.lock().unwrap().len(), handed_on);
}

#[tokio::test]
async fn a_server_that_follows_a_repository_refuses() {
    let server = Server::start().await;
    let mut client = server.models().await;
    let status = client.handle_reload_config_request(request(vec![])).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::FailedPrecondition);
    assert!(status.message().contains("--model_config_file"), "{status}");
}
