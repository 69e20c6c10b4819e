//! One pair made ready, on a worker's thread.

use std::sync::Arc;

use clip_core::{Error, Id, Pair, Result, Vocabulary};
use clip_data::Prepare;

use super::Reading;
use super::choice::{Choice, Purpose};
use super::concepts::Captions;
use super::store::{Store, text_content};
use super::teacher::{Teacher, TeacherRow};
use crate::masking::{Masked, mask};
use crate::seeds::Draw;
use crate::views::Views;

/// The stores of towers that are locked and whose features are kept.
#[derive(Clone, Default)]
pub(crate) struct Stores {
    pub(crate) image: Option<Arc<Store>>,
    pub(crate) text: Option<Arc<Store>>,
}

/// A picture or a text as a tower takes it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Taken<R> {
    /// Pixels `[3, height, width]`, or token ids.
    Raw(R),
    /// The tower's pooled features.
    Pooled(Vec<f32>),
}

/// A pair as the towers take it: an entry a view that the objectives ask for.
#[derive(Debug, Clone)]
pub(crate) struct Inputs {
    pub(crate) images: Vec<Taken<Vec<f32>>>,
    pub(crate) texts: Vec<Taken<Vec<u32>>>,
    /// The concept whose name is the text of every view, where one stands in.
    pub(crate) caption: Option<Id>,
    /// The first view's text with tokens masked, where an objective asks for it.
    pub(crate) masked: Option<Masked>,
    /// The teacher's features, where an objective asks for them.
    pub(crate) teacher: Option<TeacherRow>,
}

/// How texts are masked.
#[derive(Clone)]
pub(crate) struct Masking {
    pub(crate) share: f64,
    pub(crate) vocabulary: Vocabulary,
}

/// Makes pairs ready.
pub(crate) struct PrepareInputs {
    pub(crate) reading: Reading,
    pub(crate) stores: Stores,
    pub(crate) views: Arc<Views>,
    pub(crate) purpose: Purpose,
    /// Views of pictures and of texts that the objectives ask for.
    pub(crate) wanted: [usize; 2],
    pub(crate) captions: Captions,
    pub(crate) masking: Option<Masking>,
    pub(crate) teacher: Option<Arc<Teacher>>,
}

impl Reading {
    /// Pixels of a picture, changed as a view says.
    pub(crate) fn pixels(&self, pair: &Pair, which: usize, views: &Views, change: Option<u64>) -> Result<Vec<f32>> {
        let encoded = pair
            .images
            .get(which)
            .ok_or_else(|| Error::invalid("the row has no picture"))?;
        let mut image = self.decoder.decode(encoded)?;
        if let Some(draw) = change {
            image = views.change(&image, draw);
        }
        let [height, width] = self.transform.size();
        let mut pixels = vec![0.0; 3 * height * width];
        self.transform.apply(&image, &mut pixels)?;
        Ok(pixels)
    }

    /// Ids of a text.
    pub(crate) fn ids(&self, pair: &Pair, which: usize) -> Result<Vec<u32>> {
        self.text_ids(text(pair, which)?)
    }

    /// Ids of any text: a pair's, or a concept's name.
    pub(crate) fn text_ids(&self, text: &str) -> Result<Vec<u32>> {
        let batch = self.tokenizer.encode(&[text])?;
        let ids = batch.rows().next().map(<[u32]>::to_vec).unwrap_or_default();
        if ids.is_empty() {
            return Err(Error::invalid("the tokenizer makes no ids of the text"));
        }
        Ok(ids)
    }
}

fn text(pair: &Pair, which: usize) -> Result<&str> {
    let text = pair.texts.get(which).map(AsRef::as_ref);
    text.ok_or_else(|| Error::invalid("the row has no text"))
}

/// A feature that should have been computed before the first step.
fn missing(what: &str) -> Error {
    Error::unavailable(format!(
        "the {what} is not the one whose features were computed before training"
    ))
    .remedy("leave the data as they are while a run trains, and resume it")
}

impl PrepareInputs {
    fn image(&self, pair: &Pair, view: usize) -> Result<Taken<Vec<f32>>> {
        let Some(store) = &self.stores.image else {
            let Choice { which, draw, .. } = self.purpose.image(pair, view, 1);
            let change = (self.purpose != Purpose::Plain && self.views.changes()).then_some(draw);
            return self.reading.pixels(pair, which, &self.views, change).map(Taken::Raw);
        };
        let choice = self.purpose.image(pair, view, self.views.kept());
        let encoded = pair
            .images
            .get(choice.which)
            .ok_or_else(|| Error::invalid("the row has no picture"))?;
        let content = store.image(encoded, self.views.content(choice.view))?;
        match store.get(content)? {
            Some(features) => Ok(Taken::Pooled(features)),
            // A picture that cannot be opened has no features: its own error says why.
            None => self
                .reading
                .pixels(pair, choice.which, &self.views, None)
                .and(Err(missing("picture"))),
        }
    }

    /// The text of a view. A name stands in as it is; a pair's text that comes again is changed, but where features are
    /// kept it comes again as it is: only texts as they stand were encoded.
    fn text(&self, pair: &Pair, name: Option<&str>, view: usize) -> Result<Taken<Vec<u32>>> {
        let (plain, change) = match name {
            Some(name) => (name, None),
            None => (
                text(pair, self.purpose.text(pair, view))?,
                self.purpose.text_change(pair, view),
            ),
        };
        let Some(store) = &self.stores.text else {
            let changed = change.map(|draw| self.views.change_text(plain, draw));
            return self
                .reading
                .text_ids(changed.as_deref().unwrap_or(plain))
                .map(Taken::Raw);
        };
        store
            .get(text_content(&self.reading.text_ids(plain)?))?
            .map(Taken::Pooled)
            .ok_or_else(|| missing("text"))
    }

    /// The first view's text, masked anew each epoch.
    fn masked(&self, pair: &Pair, name: Option<&str>, masking: &Masking) -> Result<Masked> {
        let ids = match name {
            Some(name) => self.reading.text_ids(name)?,
            None => self.reading.ids(pair, self.purpose.text(pair, 0))?,
        };
        let draw = self.purpose.draw(Draw::Masked, pair.key.0);
        Ok(mask(&ids, &masking.vocabulary, masking.share, draw))
    }
}

impl Prepare for PrepareInputs {
    type Output = Inputs;

    fn prepare(&self, pair: &Pair, _: u64) -> Result<Inputs> {
        let [images, texts] = self.wanted;
        let caption = self.purpose.caption(pair, self.captions.share);
        let name = caption.map(|concept| self.captions.text(concept));
        let name = name.as_deref();
        Ok(Inputs {
            images: (0..images).map(|view| self.image(pair, view)).collect::<Result<_>>()?,
            texts: (0..texts)
                .map(|view| self.text(pair, name, view))
                .collect::<Result<_>>()?,
            masked: self
                .masking
                .as_ref()
                .map(|masking| self.masked(pair, name, masking))
                .transpose()?,
            caption: caption.map(|concept| concept.id),
            teacher: self.teacher.as_ref().map(|teacher| teacher.row(pair)).transpose()?,
        })
    }
}
