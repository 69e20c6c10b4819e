//! Changed views of pictures and of texts.

use clip_core::{Id, Image};
use clip_data::{Augment, TextAugment};

use crate::config::Augmentation;

/// How views are made.
pub(crate) struct Views {
    bounds: Augment,
    changes: bool,
    kept: usize,
    /// What identifies the bounds.
    id: u64,
    texts: TextAugment,
}

impl Views {
    pub(crate) fn new(settings: &Augmentation, texts: TextAugment) -> Self {
        let bounds = settings.bounds();
        let changes = !settings.is_plain();
        Self {
            id: Id::of(&format!("augmentation 1: {bounds:?}")).0,
            bounds,
            changes,
            texts,
            // Views that would not differ are one.
            kept: if changes { settings.views } else { 1 },
        }
    }

    /// Whether views differ from the picture at all.
    pub(crate) fn changes(&self) -> bool {
        self.changes
    }

    /// How many views of a picture are kept.
    pub(crate) fn kept(&self) -> usize {
        self.kept
    }

    /// What tells a kept view's content apart: 0 for the picture as it is.
    pub(crate) fn content(&self, view: usize) -> u64 {
        if view == 0 { 0 } else { self.id ^ view as u64 }
    }

    /// A picture changed by chance, as `draw` decides.
    pub(crate) fn change(&self, image: &Image, draw: u64) -> Image {
        self.bounds.apply(image, draw)
    }

    /// A text changed by chance, as `draw` decides.
    pub(crate) fn change_text(&self, text: &str, draw: u64) -> String {
        self.texts.apply(text, draw)
    }
}
