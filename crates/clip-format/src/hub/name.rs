//! `owner/name[@revision]`.

use clip_core::{Error, Result};

/// Longer names the hub does not take.
const LONGEST: usize = 96;
/// Git takes longer names of revisions, and nobody has one.
const LONGEST_REVISION: usize = 255;

/// A model on a hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HubName {
    /// `owner/name`.
    pub(super) id: String,
    /// A branch, a tag or a commit.
    pub(super) revision: String,
}

impl HubName {
    /// Parses what follows `hf:`. Everything in it becomes part of paths and addresses, so nothing else may stand there.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let (id, revision) = text.split_once('@').unwrap_or((text, "main"));
        let word = |word: &str| {
            (1..=LONGEST).contains(&word.len())
                && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
                && !word.starts_with(['-', '.'])
                && !word.ends_with(['-', '.'])
                && !word.contains("..")
                && !word.contains("--")
        };
        let valid = id
            .split_once('/')
            .is_some_and(|(owner, name)| word(owner) && word(name));
        if !valid {
            return Err(Error::invalid("is no name of a model on a hub")
                .remedy("name it hf:owner/name or hf:owner/name@revision"));
        }
        let part = |part: &str| {
            !part.is_empty()
                && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.+".contains(c))
                && !part.starts_with('.')
                && !part.contains("..")
        };
        if revision.len() > LONGEST_REVISION || !revision.split('/').all(part) {
            return Err(Error::invalid(format!("`{revision}` is no name of a revision"))
                .remedy("name a branch, a tag or a commit behind the @"));
        }
        Ok(Self {
            id: id.to_owned(),
            revision: revision.to_owned(),
        })
    }

    /// Whether the revision is a commit by itself, whose files never change.
    pub(super) fn is_commit(&self) -> bool {
        is_commit(&self.revision)
    }
}

/// Forty hexadecimal digits.
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// Whether what a server or a file calls a commit can be the name of a folder. Git's are forty hexadecimal digits, but a
/// mirror of one's own may count otherwise.
pub(super) fn can_be_commit(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// A revision as one part of an address.
pub(super) fn escaped(revision: &str) -> String {
    revision.replace('/', "%2F").replace('+', "%2B")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(text: &str) -> (String, String) {
        let name = HubName::parse(text).unwrap();
        (name.id, name.revision)
    }

    #[test]
    fn names_have_an_owner_and_perhaps_a_revision() {
        let own = |id: &str, revision: &str| (id.to_owned(), revision.to_owned());
        assert_eq!(
            parsed("openai/clip-vit-base-patch32"),
            own("openai/clip-vit-base-patch32", "main")
        );
        assert_eq!(parsed("a/b_c.d@refs/pr/1"), own("a/b_c.d", "refs/pr/1"));
        assert!(HubName::parse(&format!("a/b@{}", "0a".repeat(20))).unwrap().is_commit());
        assert!(!HubName::parse("a/b@v1.0").unwrap().is_commit());
    }

    #[test]
    fn what_would_leave_its_folder_is_refused() {
        for text in [
            "", "clip", "a/", "/b", "a/b/c", "../b", "a/..", "a/b c", "a/b?x", "a/.git", "a\\b/c", "a--b/c", "ä/b",
        ] {
            let error = HubName::parse(text).unwrap_err().to_string();
            assert!(error.contains("hf:owner/name"), "{text}: {error}");
        }
        for revision in ["", "..", "a/../b", "/a", "a/", ".git", "a b", "a%2Fb", "x:y"] {
            let error = HubName::parse(&format!("a/b@{revision}")).unwrap_err().to_string();
            assert!(error.contains("no name of a revision"), "{revision}: {error}");
        }
    }

    proptest! {
        /// Whatever is taken stays one folder deep, and one part of an address.
        #[test]
        fn taken_names_are_tame(text in "[a-c./@%\\\\ -]{0,12}") {
            if let Ok(name) = HubName::parse(&text) {
                prop_assert_eq!(name.id.matches('/').count(), 1);
                prop_assert!(!name.id.contains("..") && !name.revision.contains(".."));
                prop_assert!(!escaped(&name.revision).contains('/'));
            }
        }
    }
}
