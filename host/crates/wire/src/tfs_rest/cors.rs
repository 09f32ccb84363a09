//! Answers that a browser may show to pages of other origins: an option, off by default.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ORIGIN,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use crate::body::Reply;

/// A browser's question before the request itself.
pub(super) fn preflight(headers: &HeaderMap) -> Response<Reply> {
    let origin = headers.get(ORIGIN).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let known = origin.contains("http://") || origin.contains("https://");
    let mut response = Response::new(Reply::default());
    *response.status_mut() = if known { StatusCode::OK } else { StatusCode::BAD_REQUEST };
    response
}

/// Lets pages of every origin read this answer.
pub(super) fn allow(response: &mut Response<Reply>) {
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST, GET"));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("Content-Type"));
}
