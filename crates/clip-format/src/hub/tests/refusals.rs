//! What a server refuses, and servers that are none.

use std::io::Write;
use std::net::TcpListener;

use super::*;

#[test]
fn each_refusal_says_what_to_do() {
    let cases = [
        (
            Reply::refusal(401, "RepoNotFound"),
            Kind::NotFound,
            "has no model o/m, or it is private; check the name; for a private model, set HF_TOKEN",
        ),
        (Reply::refusal(404, "RepoNotFound"), Kind::NotFound, "has no model o/m"),
        (
            Reply::refusal(404, "RevisionNotFound"),
            Kind::NotFound,
            "the model o/m has no revision `main`; name a branch, a tag or a commit",
        ),
        (
            Reply::refusal(403, "GatedRepo"),
            Kind::Unavailable,
            "the model o/m is gated; ask for access at ",
        ),
        (
            Reply::refusal(401, "GatedRepo"),
            Kind::Unavailable,
            "the model o/m is gated",
        ),
        (
            Reply::of(401),
            Kind::Unavailable,
            "does not give out o/m (401 Unauthorized)",
        ),
        (Reply::of(429), Kind::Unavailable, "refuses more requests for now"),
        (
            Reply::of(503),
            Kind::Unavailable,
            "answered 503 Service Unavailable when asked for config.json of o/m",
        ),
    ];
    for (reply, kind, wanted) in cases {
        let status = reply.status;
        let server = Server::start(move |_| reply.clone());
        let cache = tempfile::tempdir().unwrap();
        let error = get("o/m", &settings(&server.address, cache.path())).unwrap_err();
        assert_eq!(error.kind(), kind, "{status}: {error}");
        assert!(error.to_string().contains(wanted), "{status}: {error}");
        // What a server cannot do now is asked for again; a refusal is one.
        let tries = if status == 503 { 3 } else { 1 };
        let asked = server.asked();
        assert_eq!(asked.len(), 2 * tries, "{status}: {asked:?}");
        assert!(asked[0].starts_with("/api/") && asked[tries].ends_with("/main/config.json"));
        assert!(!cache.path().join("models--o--m/refs").exists());
    }
    // A gated model shows its list to everybody, and its files to some.
    let server = Server::start(|request| match request.path.starts_with("/api/") {
        true => listing(&files()),
        false => Reply::refusal(403, "GatedRepo"),
    });
    let cache = tempfile::tempdir().unwrap();
    let mut settings = settings(&server.address, cache.path());
    settings.token = Some("hf_secret".to_owned());
    let message = get("o/m", &settings).unwrap_err().to_string();
    assert!(
        message.contains(&format!("{}/o/m, then check the token (HF_TOKEN", server.address)),
        "{message}"
    );
    assert!(!message.contains("hf_secret"));
}

#[test]
fn answers_that_lead_nowhere_are_errors() {
    let around = Server::start(|request| Reply::of(302).with("Location", request.path.clone()));
    let cache = tempfile::tempdir().unwrap();
    let message = get("o/m", &settings(&around.address, cache.path()))
        .unwrap_err()
        .to_string();
    assert!(message.contains("redirects in a circle"), "{message}");
    // A server that is none of HTTP.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        listener
            .incoming()
            .for_each(|connection| drop(connection.unwrap().write_all(b"SSH-2.0-hello\r\n\r\n")))
    });
    let message = get("o/m", &settings(&address, cache.path())).unwrap_err().to_string();
    assert!(message.contains("cannot be reached"), "{message}");
    // One that says nothing at all.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut settings = settings(&format!("http://{}", silent.local_addr().unwrap()), cache.path());
    settings.timeout = Duration::from_millis(200);
    let message = get("o/m", &settings).unwrap_err().to_string();
    assert!(message.contains("cannot be reached: timeout"), "{message}");
}
