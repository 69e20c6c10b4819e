//! How loaded weights fit a model: the strict report.

use std::fmt;

use clip_core::{Error, Result};

/// What does not fit. Empty lists where all does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fit {
    /// Tensors of the model that the weights lack.
    pub missing: Vec<Absent>,
    /// Tensors of another shape than the model's.
    pub misshapen: Vec<Misshapen>,
    /// Names of the weights that the model did not ask for.
    pub unexpected: Vec<String>,
    /// Tensors that could not be read, and names that a backbone asked for twice.
    pub faults: Vec<String>,
}

/// A tensor that is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Absent {
    /// Its canonical name.
    pub name: String,
    /// The shape that the model gives it.
    pub shape: Vec<i64>,
}

/// A tensor of another shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misshapen {
    /// Its canonical name.
    pub name: String,
    /// The shape in the file.
    pub file: Vec<i64>,
    /// The shape in the model.
    pub model: Vec<i64>,
}

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.name, self.shape)
    }
}

impl fmt::Display for Misshapen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} is {:?} in the file, {:?} in the model",
            self.name, self.file, self.model
        )
    }
}

impl Fit {
    /// Whether all fits.
    pub fn is_exact(&self) -> bool {
        self.missing.is_empty() && self.misshapen.is_empty() && self.unexpected.is_empty() && self.faults.is_empty()
    }

    /// The lists with their names, each entry as a person reads it; empty ones left out.
    pub fn lists(&self) -> Vec<(&'static str, Vec<String>)> {
        let wrong = self.misshapen.iter().map(Misshapen::to_string);
        let lists = [
            ("missing", self.missing.iter().map(Absent::to_string).collect()),
            ("wrong", wrong.chain(self.faults.iter().cloned()).collect()),
            ("unexpected", self.unexpected.clone()),
        ];
        lists
            .into_iter()
            .filter(|(_, list): &(_, Vec<_>)| !list.is_empty())
            .collect()
    }

    /// One error that lists what does not fit, the first dozen of each kind.
    ///
    /// # Errors
    /// Something does not.
    pub fn check(&self) -> Result<()> {
        if self.is_exact() {
            return Ok(());
        }
        let report: Vec<String> = self
            .lists()
            .iter()
            .map(|(what, list)| format!("{what} ({}): {}", list.len(), shortened(list)))
            .collect();
        Err(
            Error::invalid(format!("the weights do not fit the model: {}", report.join("; ")))
                .remedy("compare the config with the weights (`clipzoo inspect`)"),
        )
    }
}

/// The first entries of a list, and how many more there are.
fn shortened(list: &[String]) -> String {
    const SHOWN: usize = 12;
    let shown = list[..list.len().min(SHOWN)].join(", ");
    if list.len() > SHOWN {
        format!("{shown}, and {} more", list.len() - SHOWN)
    } else {
        shown
    }
}
