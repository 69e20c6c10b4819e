//! Chromium without a window, driven over a pipe by its own protocol (`--remote-debugging-pipe`): what a page looks like, what
//! it asks the network for, what it complains of.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clipzoo::clip_core::serde_json::{Value, json};
use tempfile::TempDir;

use super::support::parse;

/// How long the browser may take for one thing; machines of continuous integration are slow.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is asked of a page once it is there.
const MEASURE: &str = "(width => JSON.stringify({
  across: document.documentElement.scrollWidth, screen: innerWidth, images: document.images.length,
  broken: [...document.images].filter(image => !image.complete || !image.naturalWidth).length,
  ground: getComputedStyle(document.body).backgroundColor, ink: getComputedStyle(document.body).color,
  out: [...document.querySelectorAll('main *')].filter(e => !e.closest('.scroll') && e.getBoundingClientRect().right > width + 1)
    .map(e => e.className || e.tagName).slice(0, 5),
}))";

/// A running browser.
pub(crate) struct Chromium {
    child: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    calls: u64,
    events: Vec<Value>,
    // Its profile, new and gone with it.
    _profile: TempDir,
}

/// What a page was seen to be.
pub(crate) struct Seen {
    /// Addresses that were asked for, but for the page's own and what lies in it.
    pub(crate) requests: Vec<String>,
    /// Errors and warnings of the console.
    pub(crate) complaints: Vec<String>,
    /// What [`MEASURE`] gives.
    pub(crate) measures: Value,
    /// Where the screenshot lies.
    pub(crate) screenshot: PathBuf,
}

impl Chromium {
    pub(crate) fn start() -> Self {
        let profile = tempfile::tempdir().unwrap();
        // The pipe of the protocol is descriptors 3 and 4, which only a shell can hand over.
        let mut child = Command::new("sh")
            .args([
                "-c",
                "exec \"$0\" \"$@\" 3<&0 4>&1 0</dev/null 1>/dev/null 2>/dev/null",
                "chromium",
            ])
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
                "--remote-debugging-pipe",
            ])
            .args([
                "--disable-quic",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (to, out) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, from) = channel();
        thread::spawn(move || {
            for message in BufReader::new(out).split(0) {
                let Ok(message) = message else { return };
                if sender.send(parse(&String::from_utf8(message).unwrap())).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            to,
            from,
            calls: 0,
            events: Vec::new(),
            _profile: profile,
        }
    }

    /// Opens a page on a screen of this width, by this scheme of colours, and looks at it; the screenshot is named after all three.
    pub(crate) fn look(&mut self, page: &Path, width: u32, scheme: &str) -> Seen {
        let target = self.call("Target.createTarget", json!({ "url": "about:blank" }), None)["targetId"].clone();
        let attached = self.call(
            "Target.attachToTarget",
            json!({ "targetId": target, "flatten": true }),
            None,
        );
        let session = attached["sessionId"].as_str().map(str::to_owned);
        let session = session.as_deref();
        for domain in ["Page", "Network", "Log", "Runtime"] {
            self.call(&format!("{domain}.enable"), json!({}), session);
        }
        let metrics = json!({ "width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.call("Emulation.setDeviceMetricsOverride", metrics, session);
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.call("Emulation.setEmulatedMedia", features, session);
        self.events.clear();
        let url = format!("file://{}", page.canonicalize().unwrap().display());
        self.call("Page.navigate", json!({ "url": url }), session);
        self.wait_for("Page.loadEventFired");
        let measured = self.call(
            "Runtime.evaluate",
            json!({ "expression": format!("{MEASURE}({width})"), "returnByValue": true }),
            session,
        );
        let measures = parse(measured["result"]["value"].as_str().unwrap());
        let layout = self.call("Page.getLayoutMetrics", json!({}), session);
        let height = layout["cssContentSize"]["height"].as_f64().unwrap().min(3000.0);
        let clip = json!({ "x": 0, "y": 0, "width": width, "height": height, "scale": 1 });
        let shot = self.call(
            "Page.captureScreenshot",
            json!({ "captureBeyondViewport": true, "clip": clip }),
            session,
        );
        let name = page.file_stem().unwrap().to_string_lossy();
        let screenshot = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{width}-{scheme}.png"));
        fs::write(&screenshot, STANDARD.decode(shot["data"].as_str().unwrap()).unwrap()).unwrap();
        self.call("Target.closeTarget", json!({ "targetId": target }), None);
        let requests = self
            .happened("Network.requestWillBeSent")
            .map(|event| event["request"]["url"].as_str().unwrap().to_owned());
        let requests = requests
            .filter(|asked| *asked != url && !asked.starts_with("data:"))
            .collect();
        let said = self
            .happened("Log.entryAdded")
            .map(|event| event["entry"]["text"].to_string());
        let printed = self
            .happened("Runtime.consoleAPICalled")
            .map(|event| event["args"].to_string());
        let thrown = self.happened("Runtime.exceptionThrown").map(Value::to_string);
        Seen {
            requests,
            complaints: said.chain(printed).chain(thrown).collect(),
            measures,
            screenshot,
        }
    }

    /// Calls a method and waits for its answer.
    fn call(&mut self, method: &str, params: Value, session: Option<&str>) -> Value {
        self.calls += 1;
        let mut message = json!({ "id": self.calls, "method": method, "params": params });
        if let Some(session) = session {
            message["sessionId"] = json!(session);
        }
        self.to.write_all(format!("{message}\0").as_bytes()).unwrap();
        self.to.flush().unwrap();
        let until = Instant::now() + PATIENCE;
        loop {
            let answer = self.receive(until, method);
            if answer["id"] == json!(self.calls) {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
            self.events.push(answer);
        }
    }

    fn wait_for(&mut self, event: &str) {
        let until = Instant::now() + PATIENCE;
        while self.happened(event).next().is_none() {
            let message = self.receive(until, event);
            self.events.push(message);
        }
    }

    fn receive(&self, until: Instant, what: &str) -> Value {
        let left = until.saturating_duration_since(Instant::now());
        self.from
            .recv_timeout(left)
            .unwrap_or_else(|error| panic!("no answer to {what}: {error}"))
    }

    fn happened<'a>(&'a self, method: &'a str) -> impl Iterator<Item = &'a Value> {
        let events = self.events.iter().filter(move |event| event["method"] == method);
        events.map(|event| &event["params"])
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // It may have gone by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
