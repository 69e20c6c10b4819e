//! One artist's drawings: which characters there are, and the SVG of each.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::package;

/// The four artists, by the names of their packages under `@iconify-json/`.
pub(crate) const VENDORS: [&str; 4] = ["fluent-emoji-flat", "noto", "openmoji", "twemoji"];

/// An alias of an alias of an alias: none of the packages goes further.
const LONGEST_ALIAS_CHAIN: usize = 8;

/// The drawings of one artist.
pub(crate) struct IconSet {
    /// Icon name by character, keyed as [`character_key`] says.
    names: BTreeMap<String, String>,
    icons: Icons,
}

/// `icons.json`: SVG fragments, with a size for all and exceptions for some.
#[derive(Deserialize)]
struct Icons {
    icons: BTreeMap<String, Icon>,
    #[serde(default)]
    aliases: BTreeMap<String, Alias>,
    width: f32,
    height: f32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Icon {
    body: String,
    width: Option<f32>,
    height: Option<f32>,
}

/// Another name for an icon. One that also turns or flips it is not a plain name and is refused when asked for.
#[derive(Deserialize)]
struct Alias {
    parent: String,
    #[serde(flatten)]
    changes: BTreeMap<String, serde_json::Value>,
}

/// A drawing as a whole SVG document, and its size in its own units.
pub(crate) struct Svg {
    pub(crate) text: String,
    pub(crate) width: f32,
    pub(crate) height: f32,
}

impl IconSet {
    /// Reads the package of `vendor` in `folder`.
    pub(crate) fn read(folder: &Path, vendor: &str) -> Result<Self> {
        let path = package::find(folder, &format!("@iconify-json/{vendor}"))?;
        let [chars, icons] = package::read_members(&path, ["chars.json", "icons.json"])?;
        let chars: BTreeMap<String, String> = package::parse(&path, "chars.json", &chars)?;
        let icons = package::parse(&path, "icons.json", &icons)?;
        let names = chars
            .into_iter()
            .map(|(code, name)| (character_key(&code), name))
            .collect();
        Ok(Self { names, icons })
    }

    /// Whether the artist drew the character `hexcode`.
    pub(crate) fn has(&self, hexcode: &str) -> bool {
        self.names.contains_key(&character_key(hexcode))
    }

    /// The drawing of the character `hexcode`.
    pub(crate) fn svg(&self, hexcode: &str) -> Result<Svg> {
        let mut name = self
            .names
            .get(&character_key(hexcode))
            .with_context(|| format!("{hexcode} was not drawn"))?;
        for _ in 0..LONGEST_ALIAS_CHAIN {
            if let Some(icon) = self.icons.icons.get(name) {
                let width = icon.width.unwrap_or(self.icons.width);
                let height = icon.height.unwrap_or(self.icons.height);
                return Ok(Svg {
                    text: document(&icon.body, width, height),
                    width,
                    height,
                });
            }
            let alias = self
                .icons
                .aliases
                .get(name)
                .with_context(|| format!("there is no icon {name}"))?;
            if let Some((change, _)) = alias.changes.first_key_value() {
                bail!(
                    "the icon {name} is {} under a `{change}`, which is not drawn here",
                    alias.parent
                );
            }
            name = &alias.parent;
        }
        bail!("the aliases of {hexcode} never reach an icon");
    }
}

/// How characters are compared: the packages write the code points in lower case and leave the emoji-presentation
/// selector out in different places.
pub(crate) fn character_key(hexcode: &str) -> String {
    hexcode.to_lowercase().replace("-fe0f", "")
}

/// Some bodies refer to their parts by `xlink:href`, so the name space is always declared.
fn document(body: &str, width: f32, height: f32) -> String {
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 {width} {height}" width="{width}" height="{height}">{body}</svg>"#
    )
}

#[cfg(test)]
impl IconSet {
    /// A set from the texts of its two members, as the tests of other files need it.
    pub(crate) fn from_json(chars: &str, icons: &str) -> Self {
        let chars: BTreeMap<String, String> = serde_json::from_str(chars).unwrap();
        let names = chars
            .into_iter()
            .map(|(code, name)| (character_key(&code), name))
            .collect();
        Self {
            names,
            icons: serde_json::from_str(icons).unwrap(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHARS: &str = r#"{"1f415-200d-1f9ba": "dog", "2603-fe0f": "snow", "1f449": "right", "1f444": "lost"}"#;
    const ICONS: &str = r#"{"width": 36, "height": 36,
        "icons": {"service-dog": {"body": "<path d='M0 0h9v9z'/>", "height": 25.5}, "left": {"body": "<g/>"}},
        "aliases": {"dog": {"parent": "service-dog"}, "right": {"parent": "left", "hFlip": true},
                    "lost": {"parent": "loop"}, "loop": {"parent": "lost"}}}"#;

    #[test]
    fn a_character_is_found_through_its_alias_with_its_own_size() {
        let set = IconSet::from_json(CHARS, ICONS);
        let svg = set.svg("1F415-200D-1F9BA").unwrap();
        assert_eq!((svg.width, svg.height), (36.0, 25.5));
        assert!(svg.text.contains(r#"viewBox="0 0 36 25.5""#) && svg.text.contains("M0 0h9v9z"));
        assert!(set.has("2603") && set.has("2603-FE0F") && !set.has("2604"));
    }

    #[test]
    fn what_cannot_be_drawn_is_an_error() {
        let set = IconSet::from_json(CHARS, ICONS);
        let message = |code| set.svg(code).err().unwrap().to_string();
        assert!(message("1F449").contains("hFlip"));
        assert!(message("1F444").contains("never reach"));
        assert!(message("2603").contains("no icon snow"));
        assert!(message("2604").contains("was not drawn"));
    }
}
