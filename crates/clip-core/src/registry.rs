//! One open table of named builders, for every kind of part.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use crate::{Error, Result};

/// Names and what they stand for: backbones, objectives, tokenizers, families, indexes, apps.
///
/// `new` is empty; a bundled part enters by the same [`register`](Self::register) as a foreign one.
///
/// ```
/// use clip_core::Registry;
/// let mut shapes: Registry<fn(f32) -> f32> = Registry::new("shape");
/// shapes.register("square", |side| side * side)?;
/// assert_eq!(shapes.get("square")?(3.0), 9.0);
/// assert_eq!(shapes.get("cube").unwrap_err().what(), "unknown shape `cube`; known: square");
/// # Ok::<(), clip_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Registry<T> {
    kind: &'static str,
    parts: BTreeMap<Cow<'static, str>, T>,
}

impl<T> Registry<T> {
    /// An empty table of parts of a kind, which messages name.
    pub fn new(kind: &'static str) -> Self {
        Self {
            kind,
            parts: BTreeMap::new(),
        }
    }

    /// Adds a part. A second part of the same name is an error.
    pub fn register(&mut self, name: impl Into<Cow<'static, str>>, part: T) -> Result<&mut Self> {
        let name = name.into();
        if self.parts.contains_key(&name) {
            return Err(Error::invalid(format!("{} `{name}` is registered twice", self.kind)));
        }
        self.parts.insert(name, part);
        Ok(self)
    }

    /// The part of a name; an unknown name is an error that lists the known ones.
    pub fn get(&self, name: &str) -> Result<&T> {
        self.parts.get(name).ok_or_else(|| {
            let known = if self.parts.is_empty() {
                "none".to_owned()
            } else {
                self.names().collect::<Vec<_>>().join(", ")
            };
            Error::not_found(format!("unknown {} `{name}`; known: {known}", self.kind))
        })
    }

    /// The known names, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.keys().map(|name| &**name)
    }

    /// Names and parts, in alphabetical order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.parts.iter().map(|(name, part)| (&**name, part))
    }
}

impl<T> fmt::Debug for Registry<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Registry of {}: {:?}", self.kind, self.parts.keys())
    }
}
