//! Which files of a model are fetched: what a directory would be opened with, and nothing else.

use std::io::Read;
use std::path::PathBuf;

use clip_core::{Error, Result};
use serde::Deserialize;

use super::Fault;
use super::client::{Answer, Client};
use super::download::{self, Content};
use super::name::{HubName, can_be_commit};
use super::settings::Settings;
use super::store::Store;
use crate::locate;
use crate::source::Watch;
use crate::weights::shards;

/// No list of a model's files is longer.
const LONGEST_LIST: u64 = 32 << 20;

/// The hub's word about a revision.
#[derive(Deserialize)]
struct Listing {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

/// Fetches what is missing; gives the folder of the commit's files.
pub(super) fn fetch(
    name: &HubName,
    settings: &Settings,
    store: &Store,
    watch: &mut dyn Watch,
) -> Result<PathBuf, Fault> {
    let fetching = Fetching {
        client: Client::new(settings)?,
        name,
        settings,
        store,
    };
    let snapshot = match fetching.listing()? {
        Some(listing) => fetching.listed(&listing, watch)?,
        None => fetching.probed(watch)?,
    };
    Ok(snapshot)
}

struct Fetching<'a> {
    client: Client,
    name: &'a HubName,
    settings: &'a Settings,
    store: &'a Store,
}

impl Fetching<'_> {
    /// The list of files; `None` where the server does not give it. It may be a mirror that has only files; if it is the
    /// model that it refuses, it refuses the files too, and says why.
    fn listing(&self) -> Result<Option<Listing>, Fault> {
        let answer = self.client.get(&self.client.list(self.name), 0)?;
        if !answer.status.is_success() {
            return Ok(None);
        }
        let mut text = Vec::new();
        let read = answer.reader().take(LONGEST_LIST).read_to_end(&mut text);
        read.map_err(|error| Error::unavailable(format!("the list of the model's files broke off: {error}")))?;
        // A page for people, where a mirror has one for every address.
        let listing = serde_json::from_slice(&text).ok();
        Ok(listing.filter(|listing: &Listing| can_be_commit(&listing.sha)))
    }

    /// With the list: its commit, and of its files those that count.
    fn listed(&self, listing: &Listing, watch: &mut dyn Watch) -> Result<PathBuf, Fault> {
        let names: Vec<&str> = listing
            .siblings
            .iter()
            .map(|sibling| sibling.rfilename.as_str())
            .collect();
        let weights =
            locate::choose(&names).map_err(|error| error.remedy("name another model, or another revision"))?;
        // The weights last: once they are there, so is all else.
        let mut wanted: Vec<&str> = locate::companions().filter(|name| names.contains(name)).collect();
        wanted.push(weights);
        for file in wanted {
            if self.file(file, &listing.sha, watch)?.is_none() {
                let what = format!("the list of files names {file}, and the server has none");
                return Err(Error::not_found(what).remedy("try again").into());
            }
        }
        self.finish(weights, &listing.sha, watch)
    }

    /// Without it: each name is asked for, and the first answer tells the commit.
    fn probed(&self, watch: &mut dyn Watch) -> Result<PathBuf, Fault> {
        let mut commit: Option<String> = None;
        let mut refusal = None;
        for file in locate::companions() {
            self.probe(file, &mut commit, &mut refusal, watch)?;
        }
        for file in locate::WEIGHTS {
            if self.probe(file, &mut commit, &mut refusal, watch)?
                && let Some(commit) = &commit
            {
                return self.finish(file, commit, watch);
            }
        }
        let found_something = commit.is_some();
        let error = refusal.filter(|_| !found_something);
        Err(error
            .unwrap_or_else(|| {
                Error::not_found("the model has no weights of a known name")
                    .remedy(format!("looked for {}", locate::WEIGHTS.join(", ")))
            })
            .into())
    }

    /// Whether the file is there now; keeps the reason of the first that was not.
    fn probe(
        &self,
        file: &str,
        commit: &mut Option<String>,
        refusal: &mut Option<Error>,
        watch: &mut dyn Watch,
    ) -> Result<bool, Fault> {
        let revision = commit.as_deref().unwrap_or(&self.name.revision);
        let address = self.client.file(self.name, revision, file);
        let answer = self.client.get(&address, 0)?;
        if answer.lacks_file() {
            refusal.get_or_insert_with(|| self.client.refusal(&answer, self.name, file));
            return Ok(false);
        }
        let answer = self.expect(answer, file)?;
        let told = match answer.commit.clone().or_else(|| commit.clone()) {
            Some(told) => Some(told),
            None if self.name.is_commit() => Some(self.name.revision.clone()),
            // Some servers say it only where nothing but the head is asked for.
            None => self.client.head(&address)?.commit,
        };
        let told = told.filter(|told| can_be_commit(told)).ok_or_else(|| {
            Error::invalid(format!(
                "{} does not say which commit {file} is of",
                self.settings.endpoint
            ))
            .remedy("check HF_ENDPOINT: the address is no hub's")
        })?;
        self.take(&address, file, &told, answer, watch)?;
        *commit = Some(told);
        Ok(true)
    }

    /// A file of a commit, fetched unless it is there; `None` if the commit has none.
    fn file(&self, file: &str, commit: &str, watch: &mut dyn Watch) -> Result<Option<PathBuf>, Fault> {
        let path = self.store.snapshot(commit).join(file);
        if path.is_file() {
            return Ok(Some(path));
        }
        let address = self.client.file(self.name, commit, file);
        let answer = self.client.get(&address, 0)?;
        if answer.lacks_file() {
            return Ok(None);
        }
        let answer = self.expect(answer, file)?;
        self.take(&address, file, commit, answer, watch).map(Some)
    }

    fn expect(&self, answer: Answer, file: &str) -> Result<Answer, Fault> {
        if answer.status.is_success() {
            Ok(answer)
        } else {
            Err(self.client.refusal(&answer, self.name, file).into())
        }
    }

    fn take(
        &self,
        address: &str,
        file: &str,
        commit: &str,
        answer: Answer,
        watch: &mut dyn Watch,
    ) -> Result<PathBuf, Fault> {
        let content = Content::of(&answer, commit, file);
        let blob = self.store.blob(&content.etag);
        if !download::is_whole(&blob, &content) {
            download::fetch(
                &self.client,
                self.settings,
                self.store,
                (address, file),
                answer,
                &content,
                watch,
            )?;
        }
        Ok(self.store.place(commit, file, &blob)?)
    }

    /// The shards of an index, then the note which commit this is.
    fn finish(&self, weights: &str, commit: &str, watch: &mut dyn Watch) -> Result<PathBuf, Fault> {
        let snapshot = self.store.snapshot(commit);
        if weights.ends_with(".json") {
            for shard in shards(&snapshot.join(weights))? {
                if self.file(&shard, commit, watch)?.is_none() {
                    let what = format!("{weights} names the shard {shard}, which the model does not have");
                    return Err(Error::not_found(what).remedy("name another revision").into());
                }
            }
        }
        self.store.note_commit(commit)?;
        Ok(snapshot)
    }
}
