//! A unary gRPC call on HTTP/2: one framed message each way, and a status.
//!
//! Not left to a generated server, because there a lying frame, a message that does
//! not decode and one that is too large become INTERNAL or OUT_OF_RANGE before any
//! handler could count them.

use std::io::Read;
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use flate2::bufread::{GzDecoder, ZlibDecoder};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Body;
use ingle_types::{Code, Deadline, Limits, ServeError, Stage};
use prost::Message;

use crate::body::{self, BodyError, Reply};
use crate::call::{grpc_code, offload};
use crate::share::{Exceeded, Share};

const GRPC: &str = "application/grpc";
/// Of a message: a flag and the length.
pub(super) const PREFIX_BYTES: usize = 5;

/// Answers what is not gRPC at all.
pub(super) fn refuse<B>(request: &Request<B>) -> Option<Response<Reply>> {
    let status = if request.method() != Method::POST {
        StatusCode::METHOD_NOT_ALLOWED
    } else if !is_grpc(request.headers()) {
        StatusCode::UNSUPPORTED_MEDIA_TYPE
    } else {
        return None;
    };
    let mut response = Response::new(Reply::default());
    *response.status_mut() = status;
    Some(response)
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let text = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let Some(suffix) = text.strip_prefix(GRPC) else { return false };
    matches!(suffix, "" | "+proto")
        || suffix.starts_with([';', ' '])
        || suffix.starts_with("+proto;")
}

/// The client's deadline, or the default one.
pub(super) fn deadline(headers: &HeaderMap, limits: &Limits) -> Result<Deadline, ServeError> {
    let asked = asked_deadline(headers)?;
    Ok(if asked == Deadline::NONE { Deadline::after(limits.default_deadline) } else { asked })
}

/// The client's deadline, if it has one.
pub(super) fn asked_deadline(headers: &HeaderMap) -> Result<Deadline, ServeError> {
    let Some(value) = headers.get("grpc-timeout") else { return Ok(Deadline::NONE) };
    let timeout = value.to_str().ok().and_then(timeout);
    timeout.map(Deadline::after).ok_or_else(|| invalid("malformed grpc-timeout header"))
}

/// At most eight digits and a unit.
fn timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

#[derive(Clone, Copy)]
pub(super) enum Encoding {
    Identity,
    Gzip,
    /// Which gRPC means zlib by.
    Deflate,
}

pub(super) fn encoding(headers: &HeaderMap) -> Result<Encoding, ServeError> {
    match headers.get("grpc-encoding").map(HeaderValue::as_bytes) {
        None | Some(b"identity") => Ok(Encoding::Identity),
        Some(b"gzip") => Ok(Encoding::Gzip),
        Some(b"deflate") => Ok(Encoding::Deflate),
        Some(_) => Err(ServeError::new(
            Code::Unimplemented,
            Stage::Decode,
            "the message's grpc-encoding is not supported: use identity, deflate or gzip",
        )),
    }
}

/// The single message of a request, of at most `limit` bytes also when inflated. A
/// body that trickles is given up after the default deadline, whatever the client's.
pub(super) async fn message<B>(
    request: Request<B>,
    limit: usize,
    limits: &Limits,
) -> Result<Bytes, ServeError>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    let encoding = match encoding(request.headers()) {
        Ok(encoding) => encoding,
        Err(error) => {
            body::discard(request.into_body(), limits).await;
            return Err(error);
        }
    };
    let framed = limit.saturating_add(PREFIX_BYTES);
    let share = request.extensions().get::<Share>().cloned();
    let body = body::collect(request.into_body(), framed, share.as_ref());
    let body = tokio::time::timeout(limits.default_deadline, body)
        .await
        .map_err(|_| {
            ServeError::new(
                Code::DeadlineExceeded,
                Stage::Decode,
                "the message did not arrive in time",
            )
        })?
        .map_err(|error| match error {
            BodyError::TooLarge => too_large(limit),
            BodyError::Exceeded(error) => exceeded(error),
            BodyError::Broken(cause) => invalid("the message cannot be read").with_source(cause),
        })?;
    match encoding {
        Encoding::Identity => unframe(body, encoding, limit),
        // However short it is, it may become long.
        Encoding::Gzip | Encoding::Deflate => {
            let message = offload(limit, move || unframe(body, encoding, limit)).await?;
            share.map_or(Ok(()), |share| share.take(message.len())).map_err(exceeded)?;
            Ok(message)
        }
    }
}

fn exceeded(error: Exceeded) -> ServeError {
    ServeError::new(Code::ResourceExhausted, Stage::Decode, error.to_string())
}

/// What one frame holds, of at most `limit` bytes also when inflated.
pub(super) fn unframe(
    mut body: Bytes,
    encoding: Encoding,
    limit: usize,
) -> Result<Bytes, ServeError> {
    if body.len() < PREFIX_BYTES {
        return Err(invalid("the request holds no message"));
    }
    let flag = body.get_u8();
    let declared = usize::try_from(body.get_u32()).unwrap_or(usize::MAX);
    if declared > limit {
        return Err(too_large(limit));
    }
    if declared > body.len() {
        return Err(invalid(format!(
            "the message is cut short: {} of {declared} bytes",
            body.len()
        )));
    }
    if declared < body.len() {
        return Err(invalid("the request holds more than one message"));
    }
    match (flag, encoding) {
        (0, _) => Ok(body),
        (1, Encoding::Gzip) => inflate(GzDecoder::new(body.reader()), limit),
        (1, Encoding::Deflate) => inflate(ZlibDecoder::new(body.reader()), limit),
        (1, Encoding::Identity) => Err(invalid("a compressed message without grpc-encoding")),
        _ => Err(invalid(format!("compression flag {flag} is neither 0 nor 1"))),
    }
}

fn inflate(decoder: impl Read, limit: usize) -> Result<Bytes, ServeError> {
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let mut message = Vec::new();
    decoder.take(most).read_to_end(&mut message).map_err(|error| {
        invalid("the message is not compressed as its grpc-encoding says").with_source(error)
    })?;
    if message.len() > limit { Err(too_large(limit)) } else { Ok(message.into()) }
}

/// Decodes a small message; those with tensors are read field by field.
pub(super) fn decode<M: Message + Default>(message: Bytes) -> Result<M, ServeError> {
    M::decode(message).map_err(|error| invalid("the message cannot be parsed").with_source(error))
}

/// The framed answer.
pub(super) fn encode(message: &impl Message) -> Result<Bytes, ServeError> {
    let length = message.encoded_len();
    let declared = u32::try_from(length).map_err(|_| {
        let text = "the answer is larger than a gRPC message can be";
        ServeError::new(Code::ResourceExhausted, Stage::Encode, text)
    })?;
    let mut framed = BytesMut::with_capacity(PREFIX_BYTES + length);
    framed.put_u8(0);
    framed.put_u32(declared);
    message.encode_raw(&mut framed);
    Ok(framed.freeze())
}

/// The answer with its trailers, or the error's status.
pub(super) fn respond(outcome: Result<Bytes, ServeError>) -> Response<Reply> {
    let mut response = match outcome {
        Ok(framed) => return grpc_response(Reply::new(framed).with_trailers(trailers(None))),
        Err(error) => status(&error).into_http::<Reply>(),
    };
    accept_encodings(&mut response);
    response
}

/// An answer whose status comes after its messages.
pub(super) fn grpc_response(body: Reply) -> Response<Reply> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(GRPC));
    accept_encodings(&mut response);
    response
}

fn accept_encodings(response: &mut Response<Reply>) {
    let accepted = HeaderValue::from_static("identity,deflate,gzip");
    response.headers_mut().insert("grpc-accept-encoding", accepted);
}

/// What follows the messages of a call that ended so.
pub(super) fn trailers(error: Option<&ServeError>) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    let Some(error) = error else {
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        return trailers;
    };
    if status(error).add_header(&mut trailers).is_err() {
        // A text that is no header: the code alone.
        trailers.insert("grpc-status", HeaderValue::from(error.code().number()));
    }
    trailers
}

fn status(error: &ServeError) -> tonic::Status {
    tonic::Status::new(grpc_code(error.code()), shorten(error.message()))
}

/// Long texts would not fit a header.
fn shorten(message: &str) -> String {
    const MOST_BYTES: usize = 1024;
    if message.len() <= MOST_BYTES {
        return message.to_owned();
    }
    let end = (0..=MOST_BYTES).rev().find(|&i| message.is_char_boundary(i)).unwrap_or(0);
    format!("{}...TRUNCATED", message.get(..end).unwrap_or_default())
}

/// The end of a streaming call that the drain would wait for.
pub(super) fn stopping() -> ServeError {
    ServeError::new(Code::Unavailable, Stage::Route, "the server is stopping")
}

pub(super) fn too_large(limit: usize) -> ServeError {
    let message = format!("the message is larger than the limit of {limit} bytes");
    ServeError::new(Code::ResourceExhausted, Stage::Decode, message)
}

pub(super) fn invalid(message: impl Into<String>) -> ServeError {
    ServeError::invalid(Stage::Decode, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_have_eight_digits_and_a_unit() {
        let table = [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("30S", Some(Duration::from_secs(30))),
            ("100m", Some(Duration::from_millis(100))),
            ("99999999n", Some(Duration::from_nanos(99_999_999))),
            ("7u", Some(Duration::from_micros(7))),
            ("0S", Some(Duration::ZERO)),
            ("", None),
            ("S", None),
            ("1", None),
            ("-1S", None),
            ("+1S", None),
            ("1.5S", None),
            ("123456789S", None),
            ("1s", None),
            ("1é", None),
        ];
        for (text, expected) in table {
            assert_eq!(timeout(text), expected, "{text}");
        }
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(shorten("short"), "short");
        let cut = shorten(&format!("a{}", "é".repeat(1000)));
        assert!(cut.ends_with("é...TRUNCATED"));
        assert!(cut.len() <= 1024 + "...TRUNCATED".len());
        assert_eq!(shorten(&"x".repeat(1024)).len(), 1024);
    }

    #[test]
    fn only_grpc_with_protobuf_is_taken() {
        let is = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(value));
            is_grpc(&headers)
        };
        assert!(is("application/grpc") && is("application/grpc+proto"));
        assert!(is("application/grpc;charset=utf-8") && is("application/grpc+proto;v=1"));
        for other in ["application/grpc-web", "application/grpc+json", "application/json", "grpc"] {
            assert!(!is(other), "{other}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }

    #[test]
    fn lying_frames_are_invalid_and_large_ones_exhaust() {
        let frame = |bytes: &'static [u8], encoding| {
            unframe(Bytes::from_static(bytes), encoding, 8).map_err(|e| e.code())
        };
        let plain = |bytes| frame(bytes, Encoding::Identity);
        assert_eq!(plain(&[0, 0, 0, 0, 2, 7, 8]), Ok(Bytes::from_static(&[7, 8])));
        assert_eq!(plain(&[0, 0, 0, 0, 0]), Ok(Bytes::new()));
        for lie in [
            &[][..],
            &[0, 0, 0, 0],
            &[0, 0, 0, 0, 2, 7],
            &[0, 0, 0, 0, 1, 7, 8],
            &[1, 0, 0, 0, 1, 7],
            &[2, 0, 0, 0, 1, 7],
        ] {
            assert_eq!(plain(lie), Err(Code::InvalidArgument), "{lie:?}");
        }
        assert_eq!(plain(&[0, 0xff, 0xff, 0xff, 0xff]), Err(Code::ResourceExhausted));
        assert_eq!(frame(&[1, 0, 0, 0, 1, 7], Encoding::Gzip), Err(Code::InvalidArgument));
    }
}
