//! Who may ask: a browser on this machine that was given the token. A page from elsewhere that is open in the same browser
//! may not, even if it makes the browser believe that its own name leads here (DNS rebinding): its name is not ours.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, COOKIE, HOST, LOCATION, ORIGIN,
    REFERRER_POLICY, SET_COOKIE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::House;
use crate::page::html::policy;

/// The cookie that holds the token. Browsers share cookies between ports, so a program has a cookie of its own.
fn cookie_name(token: &str) -> String {
    format!("runner-{}", &token[..8])
}

/// Lets a request through, or says why not; adds what every answer says.
pub async fn check(State(house): State<Arc<House>>, request: Request, next: Next) -> Response {
    let mut response = match refused(&house, &request) {
        Some(refusal) => refusal,
        None => next.run(request).await,
    };
    let headers = response.headers_mut();
    let fixed = [
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    if let Ok(policy) = HeaderValue::from_str(&format!("{}; frame-ancestors 'none'", policy())) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    headers.insert(
        "cross-origin-resource-policy",
        HeaderValue::from_static("same-origin"),
    );
    response
}

fn refused(house: &House, request: &Request) -> Option<Response> {
    let headers = request.headers();
    let say = |status: StatusCode, text: &str| {
        let body = format!("{text}\n");
        Some((status, [(CONTENT_TYPE, "text/plain; charset=utf-8")], body).into_response())
    };
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return say(
            StatusCode::METHOD_NOT_ALLOWED,
            "these pages can be read, and nothing else",
        );
    }
    let host = text(headers, &HOST);
    if !host.is_some_and(is_ours) {
        return say(
            StatusCode::MISDIRECTED_REQUEST,
            "this server answers to localhost, 127.0.0.1 and [::1] alone",
        );
    }
    if let Some(origin) = text(headers, &ORIGIN)
        && origin.strip_prefix("http://") != host
    {
        return say(
            StatusCode::FORBIDDEN,
            "this request comes from another page",
        );
    }
    if let Some(given) = token_of(request.uri().query().unwrap_or_default()) {
        if !is_same(&given, &house.token) {
            return say(
                StatusCode::FORBIDDEN,
                "this token is not the one that was printed",
            );
        }
        let cookie = format!(
            "{}={given}; HttpOnly; SameSite=Lax; Path=/",
            cookie_name(&house.token)
        );
        // The token stands in no address that a browser remembers or passes on.
        let place = without_token(request.uri());
        return Some(
            (
                StatusCode::SEE_OTHER,
                [(LOCATION, place), (SET_COOKIE, cookie)],
            )
                .into_response(),
        );
    }
    if !has_cookie(headers, &house.token) {
        return say(
            StatusCode::FORBIDDEN,
            "open the address that `runner ui` printed: it has a token in it",
        );
    }
    None
}

fn text<'a>(headers: &'a HeaderMap, name: &axum::http::HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Whether a host, with or without a port, is this machine. A tunnel may come from any port.
fn is_ours(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        // `[::1]` without a port ends with a bracket.
        Some((name, port)) if !port.ends_with(']') => (name, port),
        _ => (host, ""),
    };
    ["localhost", "127.0.0.1", "[::1]"].contains(&name)
        && port.bytes().all(|byte| byte.is_ascii_digit())
}

fn token_of(query: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    let (_, value) = pairs.find(|(name, _)| name == "token")?;
    Some(value.into_owned())
}

/// The same address without its token.
fn without_token(address: &Uri) -> String {
    let mut rest = form_urlencoded::Serializer::new(String::new());
    for (name, value) in form_urlencoded::parse(address.query().unwrap_or_default().as_bytes()) {
        if name != "token" {
            rest.append_pair(&name, &value);
        }
    }
    // Two slashes at the start would name another host.
    let path = address.path().trim_start_matches('/');
    match rest.finish().as_str() {
        "" => format!("/{path}"),
        query => format!("/{path}?{query}"),
    }
}

fn has_cookie(headers: &HeaderMap, token: &str) -> bool {
    let name = cookie_name(token);
    let cookies = headers.get_all(COOKIE).iter();
    let texts = cookies.filter_map(|cookie| cookie.to_str().ok());
    let mut pairs = texts
        .flat_map(|text| text.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    pairs.any(|(known, value)| known == name && is_same(value, token))
}

/// Takes as long whether the first letter differs or the last.
fn is_same(given: &str, token: &str) -> bool {
    let differing = given
        .bytes()
        .zip(token.bytes())
        .fold(0, |differing, (left, right)| differing | (left ^ right));
    given.len() == token.len() && differing == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_ours() {
        for host in [
            "localhost",
            "localhost:8080",
            "127.0.0.1:1",
            "[::1]",
            "[::1]:8080",
        ] {
            assert!(is_ours(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil:80",
            "localhost:80@evil",
            "10.0.0.1:8080",
        ] {
            assert!(!is_ours(host), "{host}");
        }
    }

    #[test]
    fn tokens_are_compared_whole() {
        assert!(is_same("abc", "abc"));
        for other in ["", "ab", "abcd", "abd", "xbc"] {
            assert!(!is_same(other, "abc"), "{other}");
        }
        assert_eq!(token_of("a=b&token=x%2Fy").as_deref(), Some("x/y"));
        assert_eq!(token_of("a=b"), None);
        for (address, rest) in [
            ("/?token=x", "/"),
            ("/sweep?file=a%26b&token=x", "/sweep?file=a%26b"),
            ("//evil.example/?token=x", "/evil.example/"),
        ] {
            assert_eq!(without_token(&address.parse().unwrap()), rest);
        }
    }
}
