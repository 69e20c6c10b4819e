//! Requests: redirects, who is told the token, and what a refusal means.

use std::time::Duration;

use clip_core::{Error, Result};
use ureq::http::{HeaderMap, StatusCode, Uri};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::typestate::WithoutBody;
use ureq::{Agent, Body, RequestBuilder};

use super::Fault;
use super::name::HubName;
use super::settings::Settings;

/// How an address is asked.
type Method = fn(&Agent, &str) -> RequestBuilder<WithoutBody>;

/// More hops than any hub has between a file's name and its bytes.
const MOST_HOPS: usize = 8;

/// How often a request is made before its failure counts.
pub(super) const TRIES: u32 = 3;

/// Sends requests as the settings say.
pub(super) struct Client {
    agent: Agent,
    settings: Settings,
}

/// What a server answered in the end, and what was said on the way there.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// The commit that the file is of.
    pub(super) commit: Option<String>,
    /// The name of what the file holds.
    pub(super) etag: Option<String>,
    /// How long the whole file is.
    pub(super) length: Option<u64>,
    /// The hub's own word for a refusal: `RepoNotFound`, `GatedRepo`, …
    code: Option<String>,
    headers: HeaderMap,
    body: Body,
}

impl Client {
    pub(super) fn new(settings: &Settings) -> Result<Self> {
        let mut tls = TlsConfig::builder();
        if let Some(path) = &settings.certificates {
            let bytes = std::fs::read(path).map_err(|error| Error::io("read the certificates", path, error))?;
            let certificates = parse_pem(&bytes).filter_map(|item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(certificate),
                _ => None,
            });
            tls = tls.root_certs(RootCerts::from(certificates));
        }
        let config = Agent::config_builder()
            .tls_config(tls.build())
            .http_status_as_error(false)
            // Followed by hand: each hop may say something, and the token goes to the hub alone.
            .max_redirects(0)
            .max_redirects_will_error(false)
            // A length would not be the file's if the bytes came packed.
            .accept_encoding("identity")
            .user_agent(concat!("clipzoo/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(settings.timeout))
            .timeout_connect(Some(settings.timeout))
            .timeout_recv_response(Some(settings.timeout))
            .timeout_per_read(Some(settings.timeout));
        Ok(Self {
            agent: config.build().new_agent(),
            settings: settings.clone(),
        })
    }

    /// The address of a file.
    pub(super) fn file(&self, name: &HubName, revision: &str, file: &str) -> String {
        let revision = super::name::escaped(revision);
        format!("{}/{}/resolve/{revision}/{file}", self.settings.endpoint, name.id)
    }

    /// The address of the list of files.
    pub(super) fn list(&self, name: &HubName) -> String {
        let revision = super::name::escaped(&name.revision);
        format!("{}/api/models/{}/revision/{revision}", self.settings.endpoint, name.id)
    }

    /// Asks for an address, from byte `from` on. A server that stumbles is asked again a little later.
    pub(super) fn get(&self, address: &str, from: u64) -> Result<Answer, Fault> {
        let mut pause = self.settings.pause;
        for _ in 1..TRIES {
            match self.follow(address, from, |agent, address| agent.get(address)) {
                Ok(answer) if !stumbles(answer.status) => return Ok(answer),
                // Nobody is there: asking again helps no more than waiting a moment did the resolver.
                Err(fault) if fault.unreachable => return Err(fault),
                _ => std::thread::sleep(pause),
            }
            pause *= 2;
        }
        self.follow(address, from, |agent, address| agent.get(address))
    }

    /// Asks for what is said of an address, without its body.
    pub(super) fn head(&self, address: &str) -> Result<Answer, Fault> {
        self.follow(address, 0, |agent, address| agent.head(address))
    }

    fn follow(&self, address: &str, from: u64, method: Method) -> Result<Answer, Fault> {
        let mut address = address.to_owned();
        let (mut commit, mut linked, mut length, mut code, mut etag) = (None, None, None, None, None);
        for _ in 0..MOST_HOPS {
            let mut request = method(&self.agent, &address);
            // Not on a foreign host, which signs its addresses itself, and might keep what it hears.
            let own = origin(&address) == origin(&self.settings.endpoint);
            if let Some(token) = self.settings.token.as_ref().filter(|_| own) {
                request = request.header("Authorization", format!("Bearer {token}"));
            }
            if from > 0 {
                request = request.header("Range", format!("bytes={from}-"));
            }
            let response = request.call().map_err(|error| self.silent(&address, &error))?;
            let (parts, body) = response.into_parts();
            let header = |name: &str| {
                parts
                    .headers
                    .get(name)
                    .and_then(|value| value.to_str().ok())
                    .map(str::to_owned)
            };
            commit = commit.or_else(|| header("x-repo-commit"));
            code = code.or_else(|| header("x-error-code"));
            linked = linked.or_else(|| header("x-linked-etag"));
            length = length.or_else(|| header("x-linked-size").and_then(|size| size.parse().ok()));
            // The hub's own answer names what the file holds; what stands behind it has names of its own.
            etag = etag.or_else(|| header("etag").filter(|_| own));
            let to = header("location").filter(|_| parts.status.is_redirection());
            let Some(to) = to else {
                return Ok(Answer {
                    status: parts.status,
                    commit,
                    etag: linked.or(etag),
                    length,
                    code,
                    headers: parts.headers,
                    body,
                });
            };
            address = self.next(&address, &to)?;
        }
        Err(
            Error::invalid(format!("{} redirects in a circle", self.settings.endpoint))
                .remedy("check HF_ENDPOINT")
                .into(),
        )
    }

    /// The address that a redirect leads to.
    fn next(&self, from: &str, to: &str) -> Result<String, Fault> {
        let next = if to.starts_with("http://") || to.starts_with("https://") {
            to.to_owned()
        } else if let Some(rest) = to.strip_prefix("//") {
            let scheme = from.split_once(':').map_or("https", |(scheme, _)| scheme);
            format!("{scheme}://{rest}")
        } else if to.starts_with('/') {
            format!("{}{to}", origin(from).unwrap_or_default())
        } else {
            let folder = from.rsplit_once('/').map_or(from, |(folder, _)| folder);
            format!("{folder}/{to}")
        };
        if from.starts_with("https://") && next.starts_with("http://") {
            return Err(
                Error::invalid(format!("{from} redirects to an address that is not encrypted"))
                    .remedy("check HF_ENDPOINT")
                    .into(),
            );
        }
        Ok(next)
    }

    /// Nothing answers, or not in time, or not in a language that we know.
    fn silent(&self, address: &str, error: &ureq::Error) -> Fault {
        let host = origin(address).unwrap_or_else(|| self.settings.endpoint.clone());
        let silent = matches!(
            error,
            ureq::Error::HostNotFound | ureq::Error::ConnectionFailed | ureq::Error::Timeout(_) | ureq::Error::Io(_)
        );
        // A certificate that nobody here trusts comes as an I/O error too.
        let unreachable = silent && !error.to_string().contains("certificate");
        let remedy = if unreachable {
            "check the network, or set HF_ENDPOINT to a mirror"
        } else {
            "check HF_ENDPOINT, and the proxy or the certificates on the way (SSL_CERT_FILE)"
        };
        let error = Error::unavailable(format!("{host} cannot be reached: {error}")).remedy(remedy);
        Fault { error, unreachable }
    }

    /// What a refusal means; `what` was asked for.
    pub(super) fn refusal(&self, answer: &Answer, name: &HubName, what: &str) -> Error {
        let endpoint = &self.settings.endpoint;
        let with_token = self.settings.token.is_some();
        let token = if with_token {
            "check the token (HF_TOKEN, or the token file): it may not reach this model"
        } else {
            "set HF_TOKEN to a token that may read it"
        };
        let id = &name.id;
        match (answer.status.as_u16(), answer.code.as_deref()) {
            (_, Some("GatedRepo")) => {
                let remedy = format!("ask for access at {endpoint}/{id}, then {token}");
                Error::unavailable(format!("the model {id} is gated")).remedy(remedy)
            }
            (_, Some("RevisionNotFound")) => {
                Error::not_found(format!("the model {id} has no revision `{}`", name.revision))
                    .remedy("name a branch, a tag or a commit that it has")
            }
            (_, Some("EntryNotFound")) => Error::not_found(format!("the model {id} has no file {what}")),
            (401 | 403 | 404, Some("RepoNotFound")) | (404, None) => {
                Error::not_found(format!("{endpoint} has no model {id}, or it is private"))
                    .remedy(format!("check the name; for a private model, {token}"))
            }
            (401 | 403, _) => Error::unavailable(format!("{endpoint} does not give out {id} ({})", answer.status))
                .remedy(format!("check the name; for a private or gated model, {token}")),
            (429, _) => Error::unavailable(format!("{endpoint} refuses more requests for now"))
                .remedy("wait a little, or set HF_TOKEN"),
            _ => Error::unavailable(format!(
                "{endpoint} answered {} when asked for {what} of {id}",
                answer.status
            ))
            .remedy("try again later, or set HF_ENDPOINT to a mirror"),
        }
    }
}

impl Answer {
    /// Whether the file is not there, while the model is.
    pub(super) fn lacks_file(&self) -> bool {
        self.status == StatusCode::NOT_FOUND && self.code.as_deref().is_none_or(|code| code == "EntryNotFound")
    }

    /// A header of the last hop.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// How long the body is, where the server says so.
    pub(super) fn body_length(&self) -> Option<u64> {
        self.body.content_length()
    }

    /// The body.
    pub(super) fn reader(self) -> impl std::io::Read {
        self.body.into_reader()
    }
}

/// Answers that another try may better.
fn stumbles(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 500 | 502 | 503 | 504)
}

/// Scheme, host and port of an address.
fn origin(address: &str) -> Option<String> {
    let uri: Uri = address.parse().ok()?;
    Some(format!("{}://{}", uri.scheme_str()?, uri.authority()?))
}

/// Waits before another try.
pub(super) fn pause_before(try_number: u32, settings: &Settings) {
    let pause = settings.pause * 2u32.saturating_pow(try_number.min(6));
    std::thread::sleep(pause.min(Duration::from_secs(8)));
}
