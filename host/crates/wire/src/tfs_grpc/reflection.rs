//! `grpc.reflection`: what the services look like, from the descriptors of `proto/`.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use hyper::body::Body;
use ingle_types::{Code, ServeError};
use prost_reflect::{DescriptorPool, FileDescriptor};

use super::streaming::{Answers, Requests};
use super::unary;
use crate::proto::DESCRIPTORS;
use crate::proto::grpc::reflection::v1 as pb;
use crate::server::Stop;
use pb::server_reflection_request::MessageRequest;
use pb::server_reflection_response::MessageResponse;

/// Empty where the built-in descriptors are damaged, which a test would see.
static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(DESCRIPTORS).unwrap_or_default());

/// Answers each question until the client has asked all, or the server stops. Both
/// versions of the protocol have the same messages.
pub(super) async fn answer<B>(
    mut requests: Requests<B>,
    stop: &Stop,
    answers: &Answers,
) -> Result<(), ServeError>
where
    B: Body<Data = bytes::Bytes> + Unpin,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    loop {
        let Some(next) = stop.closing.run_until_cancelled(requests.next()).await else {
            return Err(unary::stopping());
        };
        let Some(message) = next? else { return Ok(()) };
        let request: pb::ServerReflectionRequest = unary::decode(message)?;
        answers.send(&respond(request)).await?;
    }
}

fn respond(request: pb::ServerReflectionRequest) -> pb::ServerReflectionResponse {
    let found = match &request.message_request {
        Some(question) => find(&POOL, question),
        None => Err(failure(Code::InvalidArgument, "the request asks nothing".into())),
    };
    pb::ServerReflectionResponse {
        valid_host: request.host.clone(),
        original_request: Some(request),
        message_response: Some(found.unwrap_or_else(MessageResponse::ErrorResponse)),
    }
}

fn find(
    pool: &DescriptorPool,
    question: &MessageRequest,
) -> Result<MessageResponse, pb::ErrorResponse> {
    let missing = |what: &str, name: &str| failure(Code::NotFound, format!("no {what} {name}"));
    match question {
        MessageRequest::ListServices(_) => Ok(services(pool)),
        MessageRequest::FileByFilename(name) => {
            pool.get_file_by_name(name).map(files).ok_or_else(|| missing("file", name))
        }
        MessageRequest::FileContainingSymbol(symbol) => {
            containing(pool, symbol).map(files).ok_or_else(|| missing("symbol", symbol))
        }
        MessageRequest::FileContainingExtension(extension) => {
            let (name, number) = (&extension.containing_type, extension.extension_number);
            let message = pool.get_message_by_name(name).ok_or_else(|| missing("message", name))?;
            let extension = u32::try_from(number).ok().and_then(|n| message.get_extension(n));
            let file = extension.map(|extension| files(extension.parent_file()));
            file.ok_or_else(|| missing("extension", &format!("{number} of {name}")))
        }
        MessageRequest::AllExtensionNumbersOfType(name) => {
            let message = pool.get_message_by_name(name).ok_or_else(|| missing("message", name))?;
            let numbers = message.extensions().filter_map(|e| i32::try_from(e.number()).ok());
            Ok(MessageResponse::AllExtensionNumbersResponse(pb::ExtensionNumberResponse {
                base_type_name: name.clone(),
                extension_number: numbers.collect(),
            }))
        }
    }
}

fn failure(code: Code, error_message: String) -> pb::ErrorResponse {
    pb::ErrorResponse { error_code: code.number(), error_message }
}

fn services(pool: &DescriptorPool) -> MessageResponse {
    let named = |service: prost_reflect::ServiceDescriptor| pb::ServiceResponse {
        name: service.full_name().to_owned(),
    };
    let service = pool.services().map(named).collect();
    MessageResponse::ListServicesResponse(pb::ListServiceResponse { service })
}

/// The file that declares a type, a service, an extension, or a method, a field or a
/// oneof of one.
fn containing(pool: &DescriptorPool, symbol: &str) -> Option<FileDescriptor> {
    let whole = || {
        let message = pool.get_message_by_name(symbol).map(|m| m.parent_file());
        message
            .or_else(|| pool.get_enum_by_name(symbol).map(|e| e.parent_file()))
            .or_else(|| pool.get_service_by_name(symbol).map(|s| s.parent_file()))
            .or_else(|| pool.get_extension_by_name(symbol).map(|e| e.parent_file()))
    };
    whole().or_else(|| {
        let (parent, member) = symbol.rsplit_once('.')?;
        if let Some(service) = pool.get_service_by_name(parent) {
            return service.methods().any(|m| m.name() == member).then(|| service.parent_file());
        }
        let message = pool.get_message_by_name(parent)?;
        let known = message.get_field_by_name(member).is_some()
            || message.oneofs().any(|oneof| oneof.name() == member);
        known.then(|| message.parent_file())
    })
}

/// A file and, after it, each that it needs, once.
fn files(file: FileDescriptor) -> MessageResponse {
    let mut known = BTreeSet::new();
    let mut waiting = vec![file];
    let mut file_descriptor_proto = Vec::new();
    while let Some(file) = waiting.pop() {
        if known.insert(file.name().to_owned()) {
            file_descriptor_proto.push(file.encode_to_vec().into());
            waiting.extend(file.dependencies());
        }
    }
    MessageResponse::FileDescriptorResponse(pb::FileDescriptorResponse { file_descriptor_proto })
}
