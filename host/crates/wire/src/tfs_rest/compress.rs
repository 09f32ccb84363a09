//! Answers in gzip, for clients that say that they take it.

use std::io::{self, Write as _};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, VARY};
use http::{HeaderMap, HeaderValue, Response};

use crate::body::Reply;
use crate::call::offload;

/// A smaller body fits a packet as it is.
const WORTH_IT: usize = 1024;

/// Whether a client takes gzip: named, or meant by `*`, with a weight that is not zero.
pub(super) fn accepted(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter();
    let codings = values.filter_map(|value| value.to_str().ok()).flat_map(|v| v.split(','));
    let (mut gzip, mut any) = (None, None);
    for coding in codings {
        let (name, parameters) = coding.split_once(';').unwrap_or((coding, ""));
        match name.trim() {
            name if name.eq_ignore_ascii_case("gzip") => gzip = Some(wanted(parameters)),
            "*" => any = Some(wanted(parameters)),
            _ => {}
        }
    }
    gzip.or(any).unwrap_or(false)
}

fn wanted(parameters: &str) -> bool {
    let weight = parameters.trim().strip_prefix(['q', 'Q']).map(str::trim_start);
    let Some(weight) = weight.and_then(|rest| rest.strip_prefix('=')) else { return true };
    weight.trim().parse::<f32>().is_ok_and(|weight| weight > 0.0)
}

/// The same answer with a shorter body, where there is one.
pub(super) async fn compress(mut response: Response<Reply>) -> Response<Reply> {
    let Some(body) = response.body().data().filter(|body| body.len() >= WORTH_IT).cloned() else {
        return response;
    };
    // Caches must not hand it to clients that did not ask for it.
    response.headers_mut().insert(VARY, HeaderValue::from_static("accept-encoding"));
    let whole = body.len();
    let packed = offload(whole, move || Ok(gzip(&body).ok())).await;
    if let Ok(Some(packed)) = packed
        && packed.len() < whole
    {
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        *response.body_mut() = Reply::new(packed);
    }
    response
}

fn gzip(body: &[u8]) -> io::Result<Bytes> {
    // The next level takes twice the time for a tenth of the size.
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body)?;
    encoder.finish().map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_taken_where_it_is_named_or_anything_is() {
        let table: [(&[&str], bool); 14] = [
            (&[], false),
            (&[""], false),
            (&["gzip"], true),
            (&["GZip"], true),
            (&["deflate, gzip;q=0.5"], true),
            (&["deflate", "gzip"], true),
            (&["gzip;q=0"], false),
            (&["gzip; q=0.000"], false),
            (&["gzip;q=x"], false),
            (&["*"], true),
            (&["*;q=0"], false),
            (&["gzip;q=0, *"], false),
            (&["*;q=0, gzip"], true),
            (&["identity, br, gzipped"], false),
        ];
        for (values, expected) in table {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(ACCEPT_ENCODING, HeaderValue::from_static(value));
            }
            assert_eq!(accepted(&headers), expected, "{values:?}");
        }
    }
}
