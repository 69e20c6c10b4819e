//! Which linear layers of a model multiply bytes, found on a sample of a user's own rows and kept beside the model.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use clip_format::{Checkpoint, Families};
use clip_nn::clip_core::{Embedder, Embeddings, Error, PixelBatch, Result, TokenBatch};
use clip_nn::tch::Device;
use clip_nn::{Calibration, Compute, DualEncoder, InputWatch, Int8, LayerInput, Pipeline, Seen, Zoo};
use serde::{Deserialize, Serialize};

use crate::OpenOptions;
use crate::open::{Opened, open_with};

/// What a calibration's file is called, in the model's directory.
pub const CALIBRATION_FILE: &str = "clipzoo_int8.json";

/// A file longer than this is none of ours.
const LONGEST: u64 = 1 << 26;

/// What to do about a calibration that does not fit.
const OF_ANOTHER: &str = "it belongs to another model: calibrate this one (`clipzoo calibrate`), or remove the file";

/// The cosine between a feature in f32 and the same feature in a cheaper type that `auto` asks for.
pub const LEAST_COSINE: f64 = 0.9995;

/// A model's calibration as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeptCalibration {
    /// The program's version that wrote it.
    pub clipzoo: String,
    /// The weights that it was measured on ([`Checkpoint::fingerprint`]).
    #[serde(default)]
    pub weights: String,
    /// Bits of a weight on the processor that it was measured on ([`Int8::weight_bits`]).
    #[serde(default = "all_bits")]
    pub weight_bits: u32,
    /// How near the image features of the sample are to those in f32; absent where the sample had no pictures, and the tower
    /// then stays without int8.
    pub image: Option<Nearness>,
    /// The same of the text features.
    pub text: Option<Nearness>,
    /// The layers that multiply bytes.
    #[serde(flatten)]
    pub calibration: Calibration,
}

fn all_bits() -> u32 {
    8
}

/// Cosines between features of two types, over a sample.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Nearness {
    /// Rows of the sample.
    pub rows: usize,
    /// The least cosine.
    pub least: f64,
    /// The mean.
    pub mean: f64,
    /// Layers of the tower that multiply bytes.
    pub layers: usize,
    /// All that could.
    pub of: usize,
}

/// Batches of the sample that tell what a layer costs alone.
const FEW: usize = 2;

/// What a model is calibrated on.
#[derive(Debug, Default)]
pub struct Sample {
    /// Prepared pictures.
    pub pixels: Vec<PixelBatch>,
    /// Token ids.
    pub tokens: Vec<TokenBatch>,
}

impl KeptCalibration {
    /// The calibration beside a checkpoint's weights, if there is one.
    ///
    /// # Errors
    /// The file is too long, cannot be read, or is no calibration.
    pub fn beside(directory: &Path) -> Result<Option<Self>> {
        let path = directory.join(CALIBRATION_FILE);
        let Ok(meta) = std::fs::metadata(&path) else {
            return Ok(None);
        };
        let remedy = "calibrate the model again (`clipzoo calibrate`), or remove the file";
        if meta.len() > LONGEST {
            return Err(Error::invalid("too long for a calibration").file(path).remedy(remedy));
        }
        let text = std::fs::read_to_string(&path).map_err(|error| Error::io("read", &path, error))?;
        let kept: Self = serde_json::from_str(&text).map_err(|error| {
            let what = format!("no calibration: {error}");
            Error::invalid(what).file(&path).remedy(remedy).source(error)
        })?;
        let sound = |input: &LayerInput| input.least.is_finite() && input.greatest.is_finite();
        match kept.calibration.layers.iter().find(|(_, input)| !sound(input)) {
            None => Ok(Some(kept)),
            Some((name, _)) => Err(Error::invalid(format!("the range of {name} is no range"))
                .file(path)
                .remedy(remedy)),
        }
    }

    /// As JSON.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string_pretty(self).map_err(|error| Error::internal(error.to_string()).source(error))
    }

    /// The calibration beside a checkpoint's weights, if there is one that was made of them. One of what they were before, or
    /// of another file beside them, counts as none, or, if it was `asked` for, is an error.
    pub(crate) fn of(checkpoint: &Checkpoint, asked: bool) -> Result<Option<Self>> {
        let Some(kept) = Self::beside(checkpoint.directory())? else {
            return Ok(None);
        };
        if kept.weights == checkpoint.fingerprint()? {
            return Ok(Some(kept));
        }
        if asked {
            return Err(Error::invalid("the calibration was made of other weights")
                .file(checkpoint.directory().join(CALIBRATION_FILE))
                .remedy(OF_ANOTHER));
        }
        Ok(None)
    }

    /// Whether both towers were calibrated and are as near to f32 as `auto` asks, on this processor too: one that takes
    /// fewer bits of a weight than the one that was measured is further from f32.
    fn holds(&self) -> bool {
        Int8::weight_bits() >= self.weight_bits
            && [&self.image, &self.text].into_iter().all(|near| {
                near.as_ref()
                    .is_some_and(|near| near.least >= LEAST_COSINE && near.layers > 0)
            })
    }

    /// Refuses a file that somebody changed: layers that the model has not, or of other widths.
    pub(crate) fn check(&self, model: &DualEncoder, directory: &Path) -> Result<()> {
        let columns: BTreeMap<&str, i64> = model
            .parameters()
            .iter()
            .filter_map(|parameter| {
                let columns = parameter.tensor.size().iter().skip(1).product();
                Some((parameter.name.strip_suffix(".weight")?, columns))
            })
            .collect();
        let fits = |(name, input): (&String, &LayerInput)| {
            let columns = columns.get(name.as_str());
            columns.is_some_and(|&columns| input.fits(columns))
        };
        match self.calibration.layers.iter().find(|&layer| !fits(layer)) {
            None => Ok(()),
            Some((name, _)) => Err(Error::invalid(format!("the model has no layer {name} that fits"))
                .file(directory.join(CALIBRATION_FILE))
                .remedy(OF_ANOTHER)),
        }
    }
}

/// The fastest type of a device that keeps features as near to f32 as [`LEAST_COSINE`]: bytes where a calibration says
/// that both towers hold and the processor multiplies them fast; bf16 where the processor multiplies it; else f32. On a GPU
/// f32, since no other was measured there.
pub fn fastest(kept: Option<&KeptCalibration>, device: Device) -> Compute {
    if Compute::Int8.is_native(device) && kept.is_some_and(KeptCalibration::holds) {
        Compute::Int8
    } else if device == Device::Cpu && Compute::Bf16.is_native(device) {
        Compute::Bf16
    } else {
        Compute::F32
    }
}

/// Finds the layers of a model that multiply bytes on the CPU: as many as keep every feature of the sample within a cosine
/// of `least` to itself in f32.
///
/// Ranges are those of the sample. A tower is tried whole; where that does not hold, with wide columns smoothed; where
/// that does not either, with as many layers as hold, those first that cost least alone.
///
/// # Errors
/// A model that does not open, a sample without rows or of other shapes than the model's.
pub fn calibrate(
    path: impl AsRef<Path>,
    zoo: &Zoo,
    families: &Families,
    sample: &Sample,
    least: f64,
) -> Result<KeptCalibration> {
    let checkpoint = Arc::new(Checkpoint::open(path.as_ref(), families)?);
    let watch = InputWatch::default();
    let bench = Bench {
        checkpoint,
        zoo,
        sample,
    };
    let plain = bench.open(Compute::F32, Int8::Uncalibrated, Some(watch.clone()))?;
    let want = bench.embed(&plain)?;
    let seen = watch.seen();
    if seen.is_empty() {
        return Err(
            Error::invalid("the towers have no linear layers, or the sample has no rows")
                .remedy("a model of convolutions stays in f32; else give a table with rows"),
        );
    }
    let mut kept = KeptCalibration {
        clipzoo: env!("CARGO_PKG_VERSION").to_owned(),
        weights: bench.checkpoint.fingerprint()?,
        weight_bits: Int8::weight_bits(),
        image: None,
        text: None,
        calibration: Calibration::default(),
    };
    for (tower, want) in [(Tower::Image, &want.0), (Tower::Text, &want.1)] {
        if want.is_empty() {
            continue;
        }
        let search = Search {
            bench: &bench,
            tower,
            want,
            least,
            seen: seen
                .iter()
                .filter(|(name, _)| name.starts_with(tower.prefix()))
                .collect(),
        };
        let (layers, near) = search.run()?;
        kept.calibration.layers.extend(layers);
        match tower {
            Tower::Image => kept.image = Some(near),
            Tower::Text => kept.text = Some(near),
        }
    }
    Ok(kept)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tower {
    Image,
    Text,
}

impl Tower {
    fn prefix(self) -> &'static str {
        match self {
            Self::Image => "image.",
            Self::Text => "text.",
        }
    }
}

/// The model, opened again and again, and the sample.
struct Bench<'a> {
    checkpoint: Arc<Checkpoint>,
    zoo: &'a Zoo,
    sample: &'a Sample,
}

impl Bench<'_> {
    fn open(&self, compute: Compute, int8: Int8, watch: Option<InputWatch>) -> Result<Pipeline> {
        let options = OpenOptions {
            compute: Some(compute),
            ..OpenOptions::default()
        };
        open_with(self.checkpoint.clone(), self.zoo, &options, Opened { int8, watch })
    }

    /// Image and text features.
    fn embed(&self, pipeline: &Pipeline) -> Result<(Embeddings, Embeddings)> {
        Ok((self.images(pipeline, usize::MAX)?, self.texts(pipeline, usize::MAX)?))
    }

    fn images(&self, pipeline: &Pipeline, batches: usize) -> Result<Embeddings> {
        let mut all = Embeddings::default();
        for pixels in self.sample.pixels.iter().take(batches) {
            all.append(&pipeline.embed_pixels(pixels)?)?;
        }
        Ok(all)
    }

    fn texts(&self, pipeline: &Pipeline, batches: usize) -> Result<Embeddings> {
        let mut all = Embeddings::default();
        for tokens in self.sample.tokens.iter().take(batches) {
            all.append(&pipeline.embed_tokens(tokens)?)?;
        }
        Ok(all)
    }
}

/// The search for one tower's layers.
struct Search<'a> {
    bench: &'a Bench<'a>,
    tower: Tower,
    /// Its features in f32.
    want: &'a Embeddings,
    least: f64,
    seen: BTreeMap<&'a String, &'a Seen>,
}

/// Which inputs have their columns smoothed, the cheaper first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Smooth {
    Nothing,
    /// All but what comes from an activation: that another layer writes as bytes, without a look at its columns.
    Sums,
    All,
}

type Layers = BTreeMap<String, LayerInput>;

impl Search<'_> {
    fn run(&self) -> Result<(Layers, Nearness)> {
        for smooth in [Smooth::Nothing, Smooth::Sums, Smooth::All] {
            let layers = self.layers(smooth, |_| true);
            let near = self.nearness(&layers, usize::MAX)?;
            if near.least >= self.least {
                return Ok((layers, near));
            }
        }
        self.as_many_as_hold()
    }

    /// The layers that are taken.
    fn layers(&self, smooth: Smooth, take: impl Fn(&str) -> bool) -> Layers {
        let taken = self.seen.iter().filter(|(name, _)| take(name));
        let smoothed = |name: &str| match smooth {
            Smooth::Nothing => false,
            Smooth::Sums => !name.ends_with(".fc2"),
            Smooth::All => true,
        };
        taken
            .map(|(name, seen)| ((*name).clone(), seen.input(smoothed(name))))
            .collect()
    }

    /// Layers by what each costs alone, the least first: as many as hold together. What layers cost adds up, so that one
    /// cut in that order is near the best choice.
    fn as_many_as_hold(&self) -> Result<(Layers, Nearness)> {
        let mut alone = Vec::new();
        for name in self.seen.keys() {
            let near = self.nearness(&self.layers(Smooth::All, |other| other == name.as_str()), FEW)?;
            alone.push((near.mean, name.as_str()));
        }
        alone.sort_by(|a, b| b.0.total_cmp(&a.0));
        let first = |count: usize| {
            let taken: Vec<&str> = alone[..count].iter().map(|(_, name)| *name).collect();
            self.layers(Smooth::All, |name| taken.contains(&name))
        };
        let mut held = (first(0), self.nearness(&first(0), usize::MAX)?);
        let (mut low, mut high) = (0, alone.len());
        while low < high {
            let middle = (low + high).div_ceil(2);
            let near = self.nearness(&first(middle), usize::MAX)?;
            if near.least >= self.least {
                held = (first(middle), near);
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        Ok(held)
    }

    /// How near the tower's features are with these layers in bytes, over the sample's first batches.
    fn nearness(&self, layers: &Layers, batches: usize) -> Result<Nearness> {
        let calibration = Calibration { layers: layers.clone() };
        let int8 = Int8::Calibrated(Arc::new(calibration));
        let pipeline = self.bench.open(Compute::Int8, int8, None)?;
        let got = match self.tower {
            Tower::Image => self.bench.images(&pipeline, batches)?,
            Tower::Text => self.bench.texts(&pipeline, batches)?,
        };
        let cosine = |row: usize| -> f64 {
            let pairs = self.want.row(row).iter().zip(got.row(row));
            pairs.map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
        };
        let cosines: Vec<f64> = (0..got.len()).map(cosine).collect();
        Ok(Nearness {
            rows: cosines.len(),
            least: cosines.iter().copied().fold(f64::INFINITY, f64::min),
            mean: cosines.iter().sum::<f64>() / cosines.len() as f64,
            layers: layers.len(),
            of: self.seen.len(),
        })
    }
}
