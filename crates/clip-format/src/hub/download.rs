//! One file into the cache: gone on with where it broke off, and checked before it counts.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;

use clip_core::{Error, Result};
use sha2::{Digest, Sha256};

use super::Fault;
use super::client::{Answer, Client, TRIES, pause_before};
use super::settings::Settings;
use super::store::{Store, make};
use crate::identity::hexadecimal;
use crate::source::Watch;

/// Bytes read at a time.
const CHUNK: usize = 1 << 16;

/// The name of what a file holds.
pub(super) struct Content {
    /// As a file of the cache is called.
    pub(super) etag: String,
    length: Option<u64>,
}

impl Content {
    /// What an answer says about the file; an answer without a usable name gets one of the commit and the file.
    pub(super) fn of(answer: &Answer, commit: &str, file: &str) -> Self {
        let etag = answer.etag.as_deref().unwrap_or_default();
        let etag = etag.trim().trim_start_matches("W/").trim_matches('"');
        let tame = (1..=128).contains(&etag.len())
            && etag
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        let etag = if tame {
            etag.to_owned()
        } else {
            let unnamed = Sha256::digest(format!("{commit}/{file}"));
            // A letter more than a hash has, which nothing is checked against.
            format!("u{}", hexadecimal(&unnamed))
        };
        Self {
            etag,
            length: answer.length.or_else(|| answer.body_length()),
        }
    }

    /// Large files are named by their SHA-256, small ones by git's own hash, which is not checked.
    fn sha256(&self) -> Option<&str> {
        let etag = self.etag.as_str();
        (etag.len() == 64 && etag.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(etag)
    }
}

/// Fetches the file at an address, whose first answer is at hand, to where it lies whole.
pub(super) fn fetch(
    client: &Client,
    settings: &Settings,
    store: &Store,
    (address, file): (&str, &str),
    answer: Answer,
    content: &Content,
    watch: &mut dyn Watch,
) -> Result<(), Fault> {
    let blob = store.blob(&content.etag);
    if let Some(folder) = blob.parent() {
        make(folder)?;
    }
    let _lock = store.lock(&content.etag, file, watch)?;
    if is_whole(&blob, content) {
        return Ok(());
    }
    let partial = blob.with_file_name(format!("{}.incomplete", content.etag));
    if content.sha256().is_some() && is_whole(&partial, content) && content.length.is_some() {
        // A process that was killed in its last moment left it.
        if matches(&partial, content)? {
            return Ok(keep(&partial, &blob)?);
        }
        remove(&partial)?;
    }
    let mut answer = Some(answer);
    for number in 0..TRIES {
        let (from, next) = match answer.take() {
            // The first answer begins at the beginning; it is of no use where half of the file is there already.
            Some(first) if there(&partial, content) == 0 => (0, first),
            _ => {
                let from = there(&partial, content);
                (from, client.get(address, from)?)
            }
        };
        match receive(next, from, &partial, file, content, watch) {
            Ok(()) => {
                if !matches(&partial, content)? {
                    // Going on with it would not make it better.
                    remove(&partial)?;
                    return Err(damaged(file, content).into());
                }
                watch.end();
                return Ok(keep(&partial, &blob)?);
            }
            Err(Broken::Local(error)) => return Err(error.into()),
            Err(Broken::Off(why)) if number + 1 == TRIES => {
                let had = there(&partial, content);
                let of = content.length.map_or(String::new(), |length| format!(" of {length}"));
                return Err(Error::unavailable(format!(
                    "the download of {file} broke off after {had}{of} bytes: {why}"
                ))
                .remedy("run the command again: it goes on from there")
                .into());
            }
            Err(Broken::Off(_)) => pause_before(number, settings),
        }
    }
    Err(Error::internal(format!("{file} was never asked for")).into())
}

fn keep(partial: &Path, blob: &Path) -> Result<()> {
    fs::rename(partial, blob).map_err(|error| Error::io("write", blob, error))
}

fn damaged(file: &str, content: &Content) -> Error {
    Error::invalid(format!("{file} arrived damaged: its SHA-256 is not {}", content.etag))
        .remedy("run the command again; if it stays so, the server or something on the way is at fault")
}

/// Whether the cache has the file, and not only a part of it that some tool left under its name.
pub(super) fn is_whole(blob: &Path, content: &Content) -> bool {
    let length = blob.metadata().map(|meta| meta.len());
    length.is_ok_and(|there| content.length.is_none_or(|length| length == there))
}

/// How much an earlier try left that can be gone on with.
fn there(partial: &Path, content: &Content) -> u64 {
    let there = partial.metadata().map_or(0, |meta| meta.len());
    // Without a length nobody could say whether it is whole.
    if content.length.is_some_and(|length| there < length) {
        there
    } else {
        0
    }
}

enum Broken {
    /// The disk.
    Local(Error),
    /// The connection, or what came over it.
    Off(String),
}

/// Writes an answer's body behind what is there.
fn receive(
    answer: Answer,
    from: u64,
    partial: &Path,
    file: &str,
    content: &Content,
    watch: &mut dyn Watch,
) -> Result<(), Broken> {
    let local = |error| Broken::Local(Error::io("write", partial, error));
    // 206: from where it was asked. Anything else that is well begins at the beginning.
    let goes_on = from > 0
        && answer.status.as_u16() == 206
        && answer
            .header("content-range")
            .is_some_and(|range| range.starts_with(&format!("bytes {from}-")));
    if !answer.status.is_success() {
        return Err(Broken::Off(format!("the server answered {}", answer.status)));
    }
    let mut out = if goes_on {
        OpenOptions::new().append(true).open(partial).map_err(local)?
    } else {
        File::create(partial).map_err(local)?
    };
    let mut had = if goes_on { from } else { 0 };
    watch.begin(file, content.length, had);
    let mut reader = answer.reader();
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Broken::Off(error.to_string())),
        };
        had += read as u64;
        if content.length.is_some_and(|length| had > length) {
            return Err(Broken::Off("more bytes came than the file has".to_owned()));
        }
        out.write_all(&buffer[..read]).map_err(local)?;
        watch.received(read as u64);
    }
    if content.length.is_some_and(|length| had < length) {
        return Err(Broken::Off("the connection was closed".to_owned()));
    }
    out.sync_all().map_err(local)
}

/// Whether a whole file is what its name says; where the name says nothing, it is.
fn matches(partial: &Path, content: &Content) -> Result<bool> {
    let Some(wanted) = content.sha256() else {
        return Ok(true);
    };
    let io = |error| Error::io("read", partial, error);
    let mut reader = File::open(partial).map_err(io)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; CHUNK];
    loop {
        match reader.read(&mut buffer).map_err(io)? {
            0 => break,
            read => hash.update(&buffer[..read]),
        }
    }
    Ok(hexadecimal(&hash.finalize()) == wanted.to_ascii_lowercase())
}

fn remove(partial: &Path) -> Result<()> {
    fs::remove_file(partial).map_err(|error| Error::io("remove", partial, error))
}
