//! What the environment says about the hub: the variables that Hugging Face's own library reads.

use std::path::PathBuf;
use std::time::Duration;

use clip_core::{Error, Result};

/// Where models are, unless `HF_ENDPOINT` names a mirror.
const ENDPOINT: &str = "https://huggingface.co";

/// Settings of one fetch.
#[derive(Clone)]
pub(super) struct Settings {
    /// The hub's address, without a slash at its end.
    pub(super) endpoint: String,
    /// The folder of all cached models.
    pub(super) cache: PathBuf,
    /// Who asks. Never shown.
    pub(super) token: Option<String>,
    /// Whether only the cache counts.
    pub(super) offline: bool,
    /// How long nothing may come before a connection is given up.
    pub(super) timeout: Duration,
    /// The pause before a failed request is tried again; doubled each time.
    pub(super) pause: Duration,
    /// Certificates to trust instead of Mozilla's, a PEM file.
    pub(super) certificates: Option<PathBuf>,
}

impl Settings {
    /// Reads the variables: `HF_ENDPOINT`, `HF_HUB_OFFLINE`, `HF_HUB_CACHE`, `HF_HOME`, `XDG_CACHE_HOME`, `HF_TOKEN`,
    /// `HF_TOKEN_PATH`, `HF_HUB_DISABLE_IMPLICIT_TOKEN`, `HF_HUB_DOWNLOAD_TIMEOUT`, `SSL_CERT_FILE`.
    ///
    /// # Errors
    /// An endpoint that is no address, no home folder to keep a cache in, a token that cannot be one.
    pub(super) fn from(variable: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let on = |name: &str| {
            let value = variable(name).map(|value| value.to_ascii_uppercase());
            value.is_some_and(|value| ["1", "ON", "YES", "TRUE"].contains(&value.as_str()))
        };
        let path = |name: &str| variable(name).map(PathBuf::from);
        let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
            return Err(
                Error::invalid(format!("HF_ENDPOINT is {endpoint:?}, which is no address"))
                    .remedy("begin it with https://"),
            );
        }
        let home = path("HF_HOME")
            .or_else(|| path("XDG_CACHE_HOME").map(|cache| cache.join("huggingface")))
            .or_else(|| {
                let home = path("HOME").or_else(|| path("USERPROFILE"));
                home.map(|home| home.join(".cache").join("huggingface"))
            });
        let cache = path("HF_HUB_CACHE").or_else(|| path("HUGGINGFACE_HUB_CACHE"));
        let cache = cache.or_else(|| home.as_ref().map(|home| home.join("hub")));
        let cache = cache.ok_or_else(|| {
            Error::invalid("there is no home folder to keep fetched models in").remedy("set HF_HOME to a folder")
        })?;
        let token_file = path("HF_TOKEN_PATH").or_else(|| home.map(|home| home.join("token")));
        let token = if on("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
            None
        } else {
            let said = variable("HF_TOKEN").or_else(|| variable("HUGGING_FACE_HUB_TOKEN"));
            said.or_else(|| std::fs::read_to_string(token_file?).ok())
        };
        let token = token
            .map(|token| token.trim().to_owned())
            .filter(|token| !token.is_empty());
        if token
            .as_ref()
            .is_some_and(|token| !token.bytes().all(|byte| byte.is_ascii_graphic()))
        {
            return Err(
                Error::invalid("the hub's token holds characters that no token has").remedy("set HF_TOKEN anew")
            );
        }
        let seconds = variable("HF_HUB_DOWNLOAD_TIMEOUT").and_then(|seconds| seconds.parse().ok());
        Ok(Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            cache,
            token,
            offline: on("HF_HUB_OFFLINE") || on("TRANSFORMERS_OFFLINE"),
            timeout: Duration::from_secs(seconds.unwrap_or(30).max(1)),
            pause: Duration::from_millis(500),
            certificates: path("SSL_CERT_FILE"),
        })
    }
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("endpoint", &self.endpoint)
            .field("cache", &self.cache)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("offline", &self.offline)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn of(variables: &[(&str, &str)]) -> Result<Settings> {
        let map: HashMap<&str, &str> = variables.iter().copied().collect();
        Settings::from(&|name| map.get(name).map(|value| (*value).to_owned()))
    }

    #[test]
    fn the_cache_is_where_other_tools_have_it() {
        let cache = |variables: &[(&str, &str)]| of(variables).unwrap().cache;
        assert_eq!(cache(&[("HOME", "/h")]), PathBuf::from("/h/.cache/huggingface/hub"));
        assert_eq!(
            cache(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]),
            PathBuf::from("/x/huggingface/hub")
        );
        assert_eq!(
            cache(&[("XDG_CACHE_HOME", "/x"), ("HF_HOME", "/f")]),
            PathBuf::from("/f/hub")
        );
        assert_eq!(cache(&[("HF_HOME", "/f"), ("HF_HUB_CACHE", "/c")]), PathBuf::from("/c"));
        assert!(of(&[]).unwrap_err().to_string().contains("set HF_HOME"));
    }

    #[test]
    fn a_token_comes_from_the_variable_or_the_file() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("token"), "hf_file\n").unwrap();
        std::fs::write(home.path().join("other"), "hf_other").unwrap();
        let home_path = home.path().to_str().unwrap();
        let other = home.path().join("other");
        let token = |more: &[(&str, &str)]| of(&[&[("HF_HOME", home_path)], more].concat()).unwrap().token;
        assert_eq!(token(&[]).as_deref(), Some("hf_file"));
        assert_eq!(token(&[("HF_TOKEN", " hf_env ")]).as_deref(), Some("hf_env"));
        assert_eq!(
            token(&[("HF_TOKEN_PATH", other.to_str().unwrap())]).as_deref(),
            Some("hf_other")
        );
        assert_eq!(
            token(&[("HF_TOKEN", "x"), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]),
            None
        );
        let odd = of(&[("HF_HOME", home_path), ("HF_TOKEN", "a\r\nHost: b")]).unwrap_err();
        assert!(odd.to_string().contains("no token has"));
        let shown = format!("{:?}", of(&[("HF_HOME", "/f"), ("HF_TOKEN", "hf_secret")]).unwrap());
        assert!(!shown.contains("hf_secret"), "{shown}");
    }

    #[test]
    fn offline_and_mirrors_are_said_by_variables() {
        let settings = of(&[
            ("HOME", "/h"),
            ("HF_HUB_OFFLINE", "yes"),
            ("HF_ENDPOINT", "http://mirror/"),
        ])
        .unwrap();
        assert!(settings.offline);
        assert_eq!(settings.endpoint, "http://mirror");
        assert!(!of(&[("HOME", "/h"), ("HF_HUB_OFFLINE", "0")]).unwrap().offline);
        assert!(of(&[("HOME", "/h"), ("HF_ENDPOINT", "mirror")]).is_err());
    }
}
