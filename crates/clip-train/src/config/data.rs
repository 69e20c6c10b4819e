//! What a run reads, and what it was made on.

use std::path::PathBuf;

use clip_core::{Error, Result};
use clip_data::{Alpha, Augment, Format};
use serde::{Deserialize, Serialize};

/// What happens at a bad row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BadRows {
    /// The run stops and names it.
    #[default]
    Stop,
    /// It is listed and left out.
    Skip,
}

/// Tables and their columns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// The training pairs.
    pub train: Option<PathBuf>,
    /// The pairs that evaluations rank.
    pub valid: Option<PathBuf>,
    /// What the tables look like: `tsv`, `csv`, `jsonl`, `folder`; by their extensions if not given.
    pub format: Option<Format>,
    /// Names of the columns, as `text:str:1,image:str:1`.
    pub schema: Option<String>,
    /// Whether the first line is a header; by the format if not given.
    pub header: Option<bool>,
    /// The captions' column.
    pub text_column: String,
    /// The pictures' column.
    pub image_column: String,
    /// The products' column.
    pub item_column: Option<String>,
    /// The concepts' column.
    pub concept_column: Option<String>,
    /// The weights' column.
    pub weight_column: Option<String>,
    /// The keys' column.
    pub id_column: Option<String>,
    /// What happens at a bad row.
    pub bad_rows: BadRows,
    /// The share of training pairs with concepts whose text is, in an epoch, one of the concepts' names, 0 to 1.
    pub caption_share: f64,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            train: None,
            valid: None,
            format: None,
            schema: None,
            header: None,
            text_column: "text".into(),
            image_column: "image".into(),
            item_column: None,
            concept_column: None,
            weight_column: None,
            id_column: None,
            bad_rows: BadRows::Stop,
            caption_share: 0.0,
        }
    }
}

/// How training pictures are changed before the model sees them. The default changes nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augmentation {
    /// How many views of each picture are kept where the image tower is locked: one plain, the others changed. An epoch
    /// sees one of them, drawn by seed, epoch and pair. A tower that is trained sees a new view each epoch.
    pub views: usize,
    /// The share of views that are mirrored.
    pub flip: f64,
    /// The most degrees a view is turned, either way.
    pub rotate: f64,
    /// Between which shares of the picture's sides the part that is seen is drawn, within 0.05 to 1.
    pub scale: [f64; 2],
    /// The most by which brightness, contrast and saturation are changed, as a share.
    pub colour: f64,
    /// Larger pictures are first reduced to so many pixels on the shorter side before they are changed; 0 leaves them.
    pub shortest: usize,
    /// What becomes of transparency in a changed view; as the model's transform does it.
    pub alpha: Alpha,
}

impl Default for Augmentation {
    fn default() -> Self {
        Self {
            views: 1,
            flip: 0.0,
            rotate: 0.0,
            scale: [1.0, 1.0],
            colour: 0.0,
            shortest: 320,
            alpha: Alpha::Drop,
        }
    }
}

impl Augmentation {
    pub(super) fn check(&self) -> Result<()> {
        if self.views == 0 {
            return Err(Error::invalid("augmentation.views is 0").remedy("set 1 for the picture as it is"));
        }
        self.bounds().check()
    }

    /// The bounds of a changed view.
    pub(crate) fn bounds(&self) -> Augment {
        Augment {
            flip: self.flip,
            rotate: self.rotate,
            scale: self.scale,
            colour: self.colour,
            shortest: self.shortest,
            alpha: self.alpha,
        }
    }

    /// Whether it changes anything.
    pub fn is_plain(&self) -> bool {
        let Self {
            flip,
            rotate,
            scale,
            colour,
            ..
        } = *self;
        flip == 0.0 && rotate == 0.0 && colour == 0.0 && scale == [1.0, 1.0]
    }
}

/// What a run was made on: numbers are equal to the bit only on the same.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Environment {
    /// This program's version.
    pub version: String,
    /// libtorch's version.
    pub libtorch: String,
    /// The working directory: what paths in the settings are relative to.
    pub directory: PathBuf,
    /// Threads that compute.
    pub threads: usize,
    /// Threads that load.
    pub workers: usize,
    /// Where it computes: `cpu`, `cuda:0`.
    pub device: String,
    /// The processor's vector units.
    pub cpu: Vec<String>,
}

impl Environment {
    /// What this process runs on.
    pub fn here(device: clip_nn::tch::Device, workers: usize) -> Self {
        use clip_nn::tch::Device;
        Self {
            version: env!("CARGO_PKG_VERSION").into(),
            libtorch: clip_torch::version(),
            directory: std::env::current_dir().unwrap_or_default(),
            threads: usize::try_from(clip_nn::tch::get_num_threads()).unwrap_or(0),
            workers,
            device: match device {
                Device::Cuda(index) => format!("cuda:{index}"),
                other => format!("{other:?}").to_lowercase(),
            },
            cpu: vector_units(),
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn vector_units() -> Vec<String> {
    let units = [
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512vnni", is_x86_feature_detected!("avx512vnni")),
        ("avx512bf16", is_x86_feature_detected!("avx512bf16")),
    ];
    let found = units.iter().filter(|(_, there)| *there);
    found.map(|(name, _)| (*name).to_owned()).collect()
}

#[cfg(not(target_arch = "x86_64"))]
fn vector_units() -> Vec<String> {
    vec![std::env::consts::ARCH.to_owned()]
}
