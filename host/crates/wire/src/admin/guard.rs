//! Who may steer: nobody's web page, and where there is a token, who shows it.

use std::net::IpAddr;

use http::header::{AUTHORIZATION, HOST, ORIGIN, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use subtle::ConstantTimeEq as _;

use crate::body::Reply;
use crate::tfs_rest::error;

/// A secret that requests show as `Authorization: Bearer TOKEN`.
pub struct Token(String);

/// Why a file holds no token.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TokenError {
    #[error("holds fewer than {} characters", Token::LEAST_BYTES)]
    Short,
    #[error("holds more than one line, or characters that are no visible ASCII")]
    Characters,
}

impl Token {
    /// A shorter one can be guessed.
    pub const LEAST_BYTES: usize = 16;

    /// What a file holds, without the white space around it.
    ///
    /// # Errors
    /// For what is too short, or cannot be sent in a header.
    pub fn new(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        if text.len() < Self::LEAST_BYTES {
            return Err(TokenError::Short);
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TokenError::Characters);
        }
        Ok(Self(text.to_owned()))
    }

    /// Takes as long for any other token of this length.
    fn is(&self, shown: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(shown).into()
    }
}

/// Says nothing of what it is.
impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

/// Answers a request that may not steer.
pub(super) fn refuse(head: &Parts, token: Option<&Token>) -> Option<Response<Reply>> {
    let headers = &head.headers;
    // A browser sends it with every request of a page that could do harm.
    if headers.contains_key(ORIGIN) {
        return Some(error(StatusCode::FORBIDDEN, "web pages may not call this API"));
    }
    match token {
        Some(token) if shown(headers).is_some_and(|shown| token.is(shown)) => None,
        Some(_) => {
            let message = "this API needs the header Authorization: Bearer TOKEN";
            let mut response = error(StatusCode::UNAUTHORIZED, message);
            let scheme = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
            Some(response)
        }
        // A page whose own name leads here is told apart by it.
        None if !host(head).is_some_and(is_address) => {
            let message = "without a token this API is called by an address or as localhost";
            Some(error(StatusCode::FORBIDDEN, message))
        }
        None => None,
    }
}

fn shown(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next()?.as_bytes();
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    (values.next().is_none() && scheme.eq_ignore_ascii_case(b"Bearer ")).then_some(token)
}

/// Whom the request is addressed to, by all that says so.
fn host(head: &Parts) -> Option<&str> {
    let mut hosts = head.headers.get_all(HOST).iter();
    let host = hosts.next()?.to_str().ok()?;
    let same = head.uri.authority().is_none_or(|authority| authority.as_str() == host);
    (hosts.next().is_none() && same).then_some(host)
}

/// `localhost` or the number of an address, with a port or without.
fn is_address(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((name, port)) => (name, port),
            None => return false,
        },
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let digits = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.is_empty() || port.strip_prefix(':').is_some_and(digits);
    port && (name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok())
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn refused(headers: &[(&str, &str)], token: Option<&str>) -> Option<u16> {
        let mut request = Request::builder().uri("/models");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let token = token.map(|token| Token::new(token).unwrap());
        refuse(&head, token.as_ref()).map(|response| response.status().as_u16())
    }

    #[test]
    fn without_a_token_the_host_is_an_address() {
        for host in
            ["localhost", "LOCALHOST:8502", "127.0.0.1:8502", "[::1]:8502", "[::1]", "10.0.0.1"]
        {
            assert_eq!(refused(&[("host", host)], None), None, "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil:80",
            "",
            "[::1",
            "localhost:",
            "localhost:x",
            "::1:1",
        ] {
            assert_eq!(refused(&[("host", host)], None), Some(403), "{host}");
        }
        assert_eq!(refused(&[], None), Some(403));
        assert_eq!(refused(&[("host", "localhost"), ("host", "localhost")], None), Some(403));
    }

    #[test]
    fn pages_are_refused_whatever_they_show() {
        let token = "0123456789abcdef";
        let bearer = format!("Bearer {token}");
        let headers =
            [("host", "localhost"), ("origin", "null"), ("authorization", bearer.as_str())];
        assert_eq!(refused(&headers, Some(token)), Some(403));
        assert_eq!(refused(&headers[..2], None), Some(403));
    }

    #[test]
    fn a_token_is_shown_whole_and_once() {
        let token = "0123456789abcdef";
        let shows =
            |value: &str| refused(&[("host", "a.b"), ("authorization", value)], Some(token));
        assert_eq!(shows("Bearer 0123456789abcdef"), None);
        assert_eq!(shows("bearer 0123456789abcdef"), None);
        for wrong in [
            "Bearer 0123456789abcdee",
            "Bearer 0123456789abcde",
            "Bearer ",
            "Bearer",
            "0123456789abcdef",
            "Basic 0123456789abcdef",
            "Bearer 0123456789abcdef0",
        ] {
            assert_eq!(shows(wrong), Some(401), "{wrong}");
        }
        assert_eq!(refused(&[("host", "localhost")], Some(token)), Some(401));
        let good = ("authorization", "Bearer 0123456789abcdef");
        assert_eq!(refused(&[good, good], Some(token)), Some(401));
    }

    #[test]
    fn a_token_has_a_length_and_can_be_sent() {
        assert!(Token::new(" 0123456789abcdef\n").is_ok());
        assert_eq!(Token::new("0123456789abcde").unwrap_err(), TokenError::Short);
        assert_eq!(Token::new("").unwrap_err(), TokenError::Short);
        assert_eq!(Token::new("01234567\n89abcdef0").unwrap_err(), TokenError::Characters);
        assert_eq!(Token::new("0123456789abcdefé").unwrap_err(), TokenError::Characters);
        assert!(!format!("{:?}", Token::new("0123456789abcdef").unwrap()).contains("0123"));
    }
}
