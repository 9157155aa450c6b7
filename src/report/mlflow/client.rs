//! The door to MLflow's REST interface: requests with their credentials, answers as JSON, and what the server said where it
//! refused something. Credentials are never part of a message.

use std::fmt;
use std::fs::File;
use std::time::Duration;

use serde_json::Value;
use ureq::http::Response;
use ureq::{Agent, Body, RequestBuilder};

use crate::report::ReportError;
use crate::report::names::encoded;

/// Tries of a request that may be sent twice.
const ATTEMPTS: u32 = 3;

/// No answer of MLflow is longer than this.
const LONGEST_ANSWER: u64 = 64 << 20;

/// How the client says who it is.
#[derive(Clone, Default)]
pub enum Credentials {
    #[default]
    None,
    Token(String),
    User(String, String),
}

impl Credentials {
    /// What the header `Authorization` says.
    fn header(&self) -> Option<String> {
        match self {
            Self::None => None,
            Self::Token(token) => Some(format!("Bearer {token}")),
            Self::User(user, password) => {
                let both = format!("{user}:{password}");
                Some(format!("Basic {}", base64(both.as_bytes())))
            }
        }
    }
}

/// Shows of which sort they are and nothing else.
impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::None => "None",
            Self::Token(_) => "Token",
            Self::User(..) => "User",
        })
    }
}

/// A tracking server.
#[derive(Clone, Debug)]
pub struct Tracking {
    /// Without credentials and without a slash at its end.
    address: String,
    credentials: Credentials,
}

impl Tracking {
    /// The server at an address, which may have a user and a password in it. Otherwise `variable` is asked, for the variables
    /// that MLflow's own clients read: `MLFLOW_TRACKING_USERNAME` and `_PASSWORD`, or `MLFLOW_TRACKING_TOKEN`.
    ///
    /// # Errors
    /// If the text is not the address of a server.
    pub fn new(
        address: &str,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ReportError> {
        let wrong = || ReportError::BadAddress(without_credentials(address));
        let (scheme, rest) = address.split_once("://").ok_or_else(wrong)?;
        let is_known = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        if !is_known || host.is_empty() || path.contains(['?', '#']) || host.contains(['?', '#']) {
            return Err(wrong());
        }
        let path = path.trim_end_matches('/');
        let slash = if path.is_empty() { "" } else { "/" };
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let credentials = match (
            user,
            set("MLFLOW_TRACKING_USERNAME"),
            set("MLFLOW_TRACKING_TOKEN"),
        ) {
            (Some(user), ..) => {
                let (name, password) = user.split_once(':').unwrap_or((user, ""));
                Credentials::User(decoded(name), decoded(password))
            }
            (None, Some(user), _) => {
                Credentials::User(user, set("MLFLOW_TRACKING_PASSWORD").unwrap_or_default())
            }
            (None, None, Some(token)) => Credentials::Token(token),
            (None, None, None) => Credentials::None,
        };
        Ok(Self {
            address: format!("{scheme}://{host}{slash}{path}"),
            credentials,
        })
    }

    /// The server's address, without credentials.
    pub fn address(&self) -> &str {
        &self.address
    }
}

/// An address without what stands before an `@` in it.
fn without_credentials(address: &str) -> String {
    match (address.find("://"), address.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => {
            format!("{}://{}", &address[..scheme], &address[at + 1..])
        }
        (None, Some(at)) => address[at + 1..].to_owned(),
        _ => address.to_owned(),
    }
}

/// `%XX` as the byte that it stands for.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut decoded, mut place) = (Vec::with_capacity(bytes.len()), 0);
    while place < bytes.len() {
        let code = (bytes[place] == b'%')
            .then(|| text.get(place + 1..place + 3))
            .flatten();
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                place += 3;
            }
            None => {
                decoded.push(bytes[place]);
                place += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// What a server refused.
#[derive(Debug)]
pub(super) struct Refusal {
    pub status: u16,
    /// MLflow's own code, such as `RESOURCE_DOES_NOT_EXIST`.
    pub code: String,
    pub message: String,
}

pub(super) struct Client<'a> {
    tracking: &'a Tracking,
    agent: Agent,
}

/// Whether a request may be sent again after its answer was lost.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    Yes,
    No,
}

impl<'a> Client<'a> {
    pub fn new(tracking: &'a Tracking) -> Self {
        let agent = Agent::config_builder()
            .timeout_connect(Some(Duration::from_secs(15)))
            .timeout_recv_response(Some(Duration::from_secs(120)))
            .http_status_as_error(false)
            .user_agent(concat!("runner/", env!("CARGO_PKG_VERSION")))
            .build()
            .into();
        Self { tracking, agent }
    }

    /// Asks for something. `Ok(Err(…))` is an answer of the server that it refuses.
    pub fn get(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<Result<Value, Refusal>, ReportError> {
        let mut address = format!("{}/api/2.0/mlflow/{path}", self.tracking.address);
        for (place, (name, value)) in query.iter().enumerate() {
            address.push(if place == 0 { '?' } else { '&' });
            address += &format!("{name}={}", encoded(value));
        }
        self.answer(Again::Yes, || {
            self.authorized(self.agent.get(&address)).call()
        })
    }

    pub fn post(
        &self,
        path: &str,
        body: &Value,
        again: Again,
    ) -> Result<Result<Value, Refusal>, ReportError> {
        let address = format!("{}/api/2.0/mlflow/{path}", self.tracking.address);
        let text = body.to_string();
        self.answer(again, || {
            self.authorized(self.agent.post(&address))
                .header("Content-Type", "application/json")
                .send(text.as_str())
        })
    }

    /// [`Self::post`] for what must not be refused.
    pub fn tell(&self, path: &str, body: &Value, again: Again) -> Result<Value, ReportError> {
        self.post(path, body, again)?
            .map_err(|refusal| self.refused(path, refusal))
    }

    /// Puts a file among the artifacts that the server keeps. `path` is that below all artifacts.
    pub fn put(&self, path: &str, content: Content<'_>) -> Result<(), ReportError> {
        let path: Vec<String> = path.split('/').map(encoded).collect();
        let address = format!(
            "{}/api/2.0/mlflow-artifacts/artifacts/{}",
            self.tracking.address,
            path.join("/")
        );
        let answer = self.answer(Again::Yes, || {
            let request = self
                .authorized(self.agent.put(&address))
                .header("Content-Type", "application/octet-stream");
            match &content {
                Content::Bytes(bytes) => request.send(*bytes),
                Content::File(path) => request.send(File::open(path).map_err(ureq::Error::Io)?),
            }
        })?;
        answer
            .map(drop)
            .map_err(|refusal| self.refused("artifacts", refusal))
    }

    fn authorized<B>(&self, request: RequestBuilder<B>) -> RequestBuilder<B> {
        match self.tracking.credentials.header() {
            Some(header) => request.header("Authorization", header),
            None => request,
        }
    }

    /// Sends a request, again after a fault that passes where that does no harm, and reads the answer.
    fn answer(
        &self,
        again: Again,
        send: impl Fn() -> Result<Response<Body>, ureq::Error>,
    ) -> Result<Result<Value, Refusal>, ReportError> {
        let attempts = if again == Again::Yes { ATTEMPTS } else { 1 };
        let mut attempt = 1;
        loop {
            let read = send().and_then(|mut response| {
                let status = response.status().as_u16();
                let text = response
                    .body_mut()
                    .with_config()
                    .limit(LONGEST_ANSWER)
                    .read_to_vec()?;
                Ok((status, text))
            });
            let passes = match &read {
                Ok((status, _)) => matches!(status, 429 | 502..=504),
                Err(_) => true,
            };
            if passes && attempt < attempts {
                std::thread::sleep(Duration::from_millis(300) * attempt * attempt);
                attempt += 1;
                continue;
            }
            let (status, text) = read.map_err(|error| self.unreachable(&error.to_string()))?;
            return Ok(if status < 300 {
                Ok(value_of(&text))
            } else {
                Err(refusal(status, &text))
            });
        }
    }

    fn unreachable(&self, reason: &str) -> ReportError {
        ReportError::Unreachable {
            server: self.tracking.address.clone(),
            reason: reason.to_owned(),
        }
    }

    /// An answer that is not what MLflow answers.
    pub fn strange(&self, what: &str) -> ReportError {
        self.unreachable(&format!(
            "its answer has no {what}; is it a tracking server of MLflow?"
        ))
    }

    pub fn refused(&self, what: &str, refusal: Refusal) -> ReportError {
        ReportError::Refused {
            server: self.tracking.address.clone(),
            what: what.to_owned(),
            status: refusal.status,
            code: refusal.code,
            message: refusal.message,
        }
    }
}

/// What is put.
pub(super) enum Content<'a> {
    Bytes(&'a [u8]),
    File(&'a std::path::Path),
}

fn value_of(text: &[u8]) -> Value {
    serde_json::from_slice(text).unwrap_or(Value::Null)
}

/// MLflow says why in JSON; what stands before it, such as a proxy, says it in HTML, which is no help.
fn refusal(status: u16, text: &[u8]) -> Refusal {
    const LONGEST: usize = 500;
    let value = value_of(text);
    let part = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let mut message = part("message");
    let plain = String::from_utf8_lossy(text);
    if message.is_empty() && !plain.trim_start().starts_with('<') {
        message = plain.trim().to_owned();
    }
    if message.chars().nth(LONGEST).is_some() {
        message = message.chars().take(LONGEST).chain(['…']).collect();
    }
    Refusal {
        status,
        code: part("error_code"),
        message,
    }
}

/// Base64 with padding (RFC 4648).
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for piece in bytes.chunks(3) {
        let mut number = 0;
        for place in 0..3 {
            number = number << 8 | usize::from(*piece.get(place).unwrap_or(&0));
        }
        for place in 0..4 {
            let letter = LETTERS[number >> (18 - 6 * place) & 63];
            text.push(if place <= piece.len() {
                char::from(letter)
            } else {
                '='
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_come_from_the_address_or_the_usual_variables() {
        let with = |address: &str, set: &[(&str, &str)]| {
            let variable = |name: &str| {
                set.iter()
                    .find(|(known, _)| *known == name)
                    .map(|(_, value)| (*value).to_owned())
            };
            let tracking = Tracking::new(address, variable).unwrap();
            (tracking.address().to_owned(), tracking.credentials.header())
        };
        let token = ("MLFLOW_TRACKING_TOKEN", "t0");
        let user = [
            ("MLFLOW_TRACKING_USERNAME", "ann"),
            ("MLFLOW_TRACKING_PASSWORD", "p:w"),
            token,
        ];
        assert_eq!(with("http://h:5000/", &[]), ("http://h:5000".into(), None));
        assert_eq!(
            with("https://h/ml/", &[token]),
            ("https://h/ml".into(), Some("Bearer t0".into()))
        );
        assert_eq!(with("http://h", &user).1, Some("Basic YW5uOnA6dw==".into()));
        let (address, authorization) = with("http://a%40b:c@h:1", &user);
        assert_eq!(
            (address.as_str(), authorization.as_deref()),
            ("http://h:1", Some("Basic YUBiOmM="))
        );
        let secret = Tracking::new("http://ann:secret@h", |_| None).unwrap();
        assert!(!format!("{secret:?}").contains("secret"));
    }

    #[test]
    fn what_is_not_an_address_is_refused_without_its_secrets() {
        for address in [
            "mlruns",
            "file:///x",
            "http://",
            "http://u:geheim@",
            "ftp://u:geheim@h",
            "http://h/x?y",
        ] {
            let error = Tracking::new(address, |_| None).unwrap_err().to_string();
            assert!(!error.contains("geheim"), "{error}");
        }
    }

    #[test]
    fn base64_is_that_of_others() {
        let pairs = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
        ];
        for (text, expected) in pairs {
            assert_eq!(base64(text.as_bytes()), expected);
        }
    }
}
