//! Checkpoints: all that a run needs to go on to the bit, in a folder that appears whole.
//!
//! `DIR/checkpoints/step_N/` holds `model/` (a loadable model directory, as the writer wrote it, adapters left out),
//! `optimizer.safetensors` (AdamW's averages; parameters of the objectives' own under `objectives/`, adapters under
//! `adapters/`, averages of weights under `ema/`), `queue.safetensors` and `concepts.safetensors` where the run has a
//! feature queue and encodes names of concepts, and `state.json` (where the run stands, and length and SHA-256 of every
//! other file). No state of a random generator is kept: every draw is seeded by what it is for.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clip_core::{Error, Position, Result};
use clip_data::TensorFile;
use clip_nn::tch::{Device, Kind, Tensor};
use clip_nn::{DualEncoder, ModelWriter, State, door};
use safetensors::{Dtype, View};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::config::{Keep, RunConfig};
use crate::folder::{self, PendingFolder};
use crate::numbers::{Mean, on_cpu};

/// Raised when an older program could not read what is written.
const VERSION: u32 = 1;

/// The best evaluation so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// The figure it is best by.
    pub metric: String,
    /// Its value.
    pub value: f64,
    /// Steps done.
    pub step: u64,
}

/// Where a run stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunState {
    /// Steps done.
    pub step: u64,
    /// The epoch under way, from 0; the number of epochs where all are done.
    pub epoch: u64,
    /// Where the epoch's source stands.
    pub position: Position,
    /// Whether the figures of an evaluation at this step belong to what is done.
    pub evaluated: bool,
    /// The mean loss of the epoch under way.
    #[serde(default)]
    pub epoch_loss: Mean,
    /// The best evaluation so far.
    pub best: Option<Best>,
    /// Evaluations in a row without a new best.
    #[serde(default)]
    pub stale: u64,
    /// Steps in a row that were left out since their loss was not finite.
    pub bad_steps: u64,
    /// Rows refused so far, those met again counted again.
    pub refused: u64,
    /// The resolved settings, as TOML.
    pub config: String,
    /// What the feature queue keeps beside its tensors; null in a run without one.
    #[serde(default)]
    pub queue: Value,
    /// Names of concepts, and what else is kept of them; null in a run that encodes none.
    #[serde(default)]
    pub concepts: Value,
}

/// A file of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Sum {
    bytes: u64,
    sha256: String,
}

#[derive(Serialize, Deserialize)]
struct StateFile {
    version: u32,
    state: RunState,
    files: BTreeMap<String, Sum>,
}

/// A checkpoint whose files are as they were written.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    path: PathBuf,
    state: RunState,
}

impl RunState {
    /// Whether all is done that `config` asks. Without `max_steps` the epochs alone say so: refused rows make them shorter
    /// than planned.
    pub fn ended(&self, config: &RunConfig) -> bool {
        let most = config.max_steps.unwrap_or(u64::MAX);
        self.epoch >= config.epochs || self.step >= most || self.stopped_early(config)
    }

    /// Whether the last evaluations brought no new best, as many as `config` waits for.
    pub fn stopped_early(&self, config: &RunConfig) -> bool {
        config.evaluation.patience.is_some_and(|most| self.stale >= most)
    }
}

impl Checkpoint {
    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The model directory in it: what to open to go on.
    pub fn model(&self) -> PathBuf {
        self.path.join("model")
    }

    /// Whether all that was due when the run ended here was done: an evaluation, `best` and `last`.
    pub(crate) fn is_end(&self) -> bool {
        self.path.join(END).exists()
    }

    /// Where the run stood.
    pub fn state(&self) -> &RunState {
        &self.state
    }

    /// Opens a checkpoint and checks every file of it.
    ///
    /// # Errors
    /// A file is missing, was cut or changed, or a newer program wrote it.
    pub fn open(path: &Path) -> Result<Self> {
        let state = path.join("state.json");
        let text = fs::read_to_string(&state).map_err(|error| Error::io("read", &state, error))?;
        let (digest, body) = text.split_once('\n').unwrap_or(("", &text));
        if digest != hex(&Sha256::digest(body.as_bytes())) {
            return Err(Error::invalid("the file was changed after it was written").file(&state));
        }
        let parsed: StateFile = serde_json::from_str(body).map_err(|error| {
            Error::invalid(format!("no state of a run: {error}"))
                .file(&state)
                .source(error)
        })?;
        if parsed.version > VERSION {
            return Err(Error::invalid(format!("written by a newer version ({})", parsed.version)).file(&state));
        }
        for (name, sum) in &parsed.files {
            let file = path.join(name);
            let found = sum_of(&file).map_err(|error| Error::io("read", &file, error))?;
            if found != *sum {
                return Err(Error::invalid("the file was changed after it was written").file(&file));
            }
        }
        Ok(Self {
            path: path.to_owned(),
            state: parsed.state,
        })
    }

    /// The tensors of one of its files, on a device.
    pub(crate) fn tensors(&self, file: &str, device: Device) -> Result<HashMap<String, Tensor>> {
        let file = TensorFile::open(self.path.join(file))?;
        let mut tensors = HashMap::new();
        for name in file.names() {
            let shape: Vec<i64> = file.shape(&name)?.iter().map(|&n| n as i64).collect();
            let rows = shape.first().map_or(1, |&n| n as usize);
            let tensor = if file.is_whole(&name)? {
                let values = file.integers(&name, 0..rows)?;
                door(|| Tensor::from_slice(&values))?
            } else {
                let values = file.floats(&name, 0..rows)?;
                door(|| Tensor::from_slice(&values))?
            };
            let tensor = door(|| tensor.view(shape.as_slice()).to_device(device))?;
            tensors.insert(name, tensor);
        }
        Ok(tensors)
    }
}

impl Checkpoint {
    /// The state of a part of the run: the tensors of one of its files, by name, and what the part keeps beside them.
    pub(crate) fn part(&self, file: &str, plain: &Value, device: Device) -> Result<State> {
        let mut tensors: Named = self.tensors(file, device)?.into_iter().collect();
        tensors.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(State {
            tensors,
            plain: plain.clone(),
        })
    }
}

/// An empty file that says that nothing is left to do behind a run's last checkpoint: a process may be killed between that
/// and what is due at the end.
const END: &str = "end";
/// AdamW's averages, and the parameters of objectives.
pub(crate) const OPTIMIZER: &str = "optimizer.safetensors";
/// The feature queue.
pub(crate) const QUEUE: &str = "queue.safetensors";
/// The bank of concept names.
pub(crate) const CONCEPTS: &str = "concepts.safetensors";

/// Tensors of a file by name.
pub(crate) type Named = Vec<(String, Tensor)>;

/// The checkpoints of a run: `DIR/checkpoints`.
#[derive(Debug, Clone)]
pub(crate) struct Checkpoints {
    folder: PathBuf,
}

impl Checkpoints {
    pub(crate) fn of(run: &Path) -> Self {
        Self {
            folder: run.join("checkpoints"),
        }
    }

    /// Steps of the checkpoints there are, ascending, good or not.
    fn steps(&self) -> Result<Vec<u64>> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::io("read", &self.folder, error)),
        };
        let mut steps = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| Error::io("read", &self.folder, error))?;
            let name = entry.file_name();
            steps.extend(
                name.to_str()
                    .and_then(|name| name.strip_prefix("step_")?.parse::<u64>().ok()),
            );
        }
        steps.sort_unstable();
        Ok(steps)
    }

    fn at(&self, step: u64) -> PathBuf {
        self.folder.join(format!("step_{step}"))
    }

    /// The newest good checkpoint, and what is wrong with newer ones. Remains of a killed process are removed.
    pub(crate) fn newest(&self) -> Result<(Option<Checkpoint>, Vec<Error>)> {
        folder::clean(&self.folder)?;
        self.newest_good()
    }

    /// The same where a run may be under way, so nothing is removed.
    pub(crate) fn newest_good(&self) -> Result<(Option<Checkpoint>, Vec<Error>)> {
        let mut faults = Vec::new();
        for step in self.steps()?.into_iter().rev() {
            match Checkpoint::open(&self.at(step)) {
                Ok(checkpoint) => return Ok((Some(checkpoint), faults)),
                Err(error) => faults.push(error),
            }
        }
        Ok((None, faults))
    }

    /// Removes checkpoints of later steps than the one a run goes on from: they are broken, and their numbers come again.
    pub(crate) fn forget_after(&self, step: Option<u64>) -> Result<()> {
        for later in self
            .steps()?
            .into_iter()
            .filter(|later| step.is_none_or(|step| *later > step))
        {
            let path = self.at(later);
            fs::remove_dir_all(&path).map_err(|error| Error::io("remove", &path, error))?;
        }
        Ok(())
    }

    /// Writes a checkpoint and gives its folder.
    pub(crate) fn write(
        &self,
        state: &RunState,
        tensors: Vec<(&str, Named)>,
        model: &DualEncoder,
        writer: &dyn ModelWriter,
    ) -> Result<PathBuf> {
        fs::create_dir_all(&self.folder).map_err(|error| Error::io("write", &self.folder, error))?;
        let target = self.at(state.step);
        let pending = PendingFolder::create(&target)?;
        let inside = pending.path();
        let model_folder = inside.join("model");
        fs::create_dir(&model_folder).map_err(|error| Error::io("write", &model_folder, error))?;
        model
            .parameters()
            .without_adapters(|| writer.write(model, &model_folder))?;
        for (name, tensors) in tensors {
            write_tensors(tensors, &inside.join(name))?;
        }
        let mut sums = BTreeMap::new();
        for (path, name) in folder::files(inside).map_err(|error| Error::io("read", inside, error))? {
            sums.insert(name, sum_of(&path).map_err(|error| Error::io("read", &path, error))?);
        }
        let file = StateFile {
            version: VERSION,
            state: state.clone(),
            files: sums,
        };
        let body = serde_json::to_string_pretty(&file)
            .map_err(|error| Error::internal(format!("state of the run: {error}")).source(error))?;
        let text = format!("{}\n{body}", hex(&Sha256::digest(body.as_bytes())));
        let path = inside.join("state.json");
        fs::write(&path, text).map_err(|error| Error::io("write", &target, error))?;
        pending.publish()?;
        Ok(target)
    }

    /// Says that nothing is left to do behind the checkpoint of a step.
    pub(crate) fn end(&self, step: u64) -> Result<()> {
        let path = self.at(step).join(END);
        fs::write(&path, []).map_err(|error| Error::io("write", &path, error))
    }

    /// Removes all but those to keep, and spares one beside them.
    pub(crate) fn prune(&self, keep: Keep, spare: Option<u64>) -> Result<()> {
        let Keep::Newest(keep) = keep else {
            return Ok(());
        };
        let steps = self.steps()?;
        let old = &steps[..steps.len().saturating_sub(keep.max(1))];
        for &step in old.iter().filter(|step| spare != Some(**step)) {
            let path = self.at(step);
            fs::remove_dir_all(&path).map_err(|error| Error::io("remove", &path, error))?;
        }
        Ok(())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sum_of(path: &Path) -> io::Result<Sum> {
    let mut file = File::open(path)?;
    let (mut hash, mut bytes) = (Sha256::new(), 0);
    let mut piece = vec![0; 1 << 20];
    loop {
        match file.read(&mut piece)? {
            0 => break,
            read => {
                hash.update(&piece[..read]);
                bytes += read as u64;
            }
        }
    }
    Ok(Sum {
        bytes,
        sha256: hex(&hash.finalize()),
    })
}

/// A tensor on its way to a file; its bytes are copied only when they are written.
struct Saved {
    tensor: Tensor,
    shape: Vec<usize>,
}

impl View for &Saved {
    fn dtype(&self) -> Dtype {
        match self.tensor.kind() {
            Kind::Int64 => Dtype::I64,
            _ => Dtype::F32,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(if self.tensor.kind() == Kind::Int64 {
            let integers = on_cpu::<i64>(&self.tensor);
            integers.iter().flat_map(|value| value.to_le_bytes()).collect()
        } else {
            let floats = on_cpu::<f32>(&self.tensor);
            floats.iter().flat_map(|value| value.to_le_bytes()).collect()
        })
    }

    fn data_len(&self) -> usize {
        let size = if self.tensor.kind() == Kind::Int64 { 8 } else { 4 };
        size * self.shape.iter().product::<usize>()
    }
}

fn write_tensors(tensors: Vec<(String, Tensor)>, path: &Path) -> Result<()> {
    let saved: Vec<(String, Saved)> = tensors
        .into_iter()
        .map(|(name, tensor)| {
            let shape = tensor.size().iter().map(|&n| n as usize).collect();
            let tensor = match tensor.kind() {
                Kind::Int64 => tensor.detach(),
                _ => tensor.detach().to_kind(Kind::Float),
            };
            (name, Saved { tensor, shape })
        })
        .collect();
    let views = saved.iter().map(|(name, saved)| (name.as_str(), saved));
    door(|| safetensors::serialize_to_file(views, None, path))?.map_err(|error| match error {
        safetensors::SafeTensorError::IoError(error) => Error::io("write", path, error),
        other => Error::internal(format!("tensors of a checkpoint: {other}")).source(other),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_come_back_to_the_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(OPTIMIZER);
        let tensors = vec![
            (
                "b/average".to_owned(),
                Tensor::from_slice(&[1.0f32, -0.1, 3e-39, 4.0]).view([2, 2]),
            ),
            ("a/steps".to_owned(), Tensor::from(7f32)),
            ("c".to_owned(), Tensor::zeros([0, 3], (Kind::Float, Device::Cpu))),
            ("ids".to_owned(), Tensor::from_slice(&[i64::MIN, -1, i64::MAX])),
        ];
        let kept: Vec<_> = tensors
            .iter()
            .map(|(name, tensor)| (name.clone(), tensor.copy()))
            .collect();
        write_tensors(tensors, &path).unwrap();
        let checkpoint = Checkpoint {
            path: folder.path().to_owned(),
            state: state(7),
        };
        let back = checkpoint.tensors(OPTIMIZER, Device::Cpu).unwrap();
        assert_eq!(back.len(), 4);
        for (name, tensor) in kept {
            assert_eq!(back[&name].size(), tensor.size());
            assert!(back[&name].equal(&tensor), "{name}");
        }
    }

    pub(super) fn state(step: u64) -> RunState {
        RunState {
            step,
            epoch: 1,
            position: Position::default(),
            evaluated: true,
            epoch_loss: Mean::default(),
            best: None,
            stale: 0,
            bad_steps: 0,
            refused: 0,
            config: String::new(),
            queue: Value::Null,
            concepts: Value::Null,
        }
    }

    /// A reader of JSON that is off in the last digit makes an equal score a new best behind a resume.
    #[test]
    fn the_best_value_comes_back_to_the_bit() {
        for tenths in 0..=1200u32 {
            let value = f64::from(tenths) / 12.0 * 100.0 / 3.0;
            let mut state = state(7);
            state.best = Some(Best {
                metric: "valid_mean_recall".into(),
                value,
                step: 5,
            });
            let text = serde_json::to_string(&state).unwrap();
            assert_eq!(serde_json::from_str::<RunState>(&text).unwrap(), state);
        }
    }

    #[test]
    fn an_unwritable_place_is_named() {
        let error = write_tensors(Vec::new(), Path::new("/proc/self/x.safetensors")).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("/proc/self/x.safetensors: cannot write: "),
            "{error}"
        );
    }
}
