//! Single settings given beside a file: `KEY=VALUE`.

use clip_core::{Error, Result};
use toml::{Table, Value};

use super::{RunConfig, read, write};

impl RunConfig {
    /// These settings with some of them replaced. An assignment is `KEY=VALUE` as a line of run.toml says it, with the names
    /// of tables before the key's own: `evaluation.every=200`, `betas=[0.9, 0.999]`. A value that is no TOML is a string.
    ///
    /// ```
    /// use clip_train::{Every, RunConfig};
    /// let config = RunConfig::default().with(&["evaluation.every=200", "betas=[0.9,0.999]"])?;
    /// assert_eq!((config.evaluation.every, config.betas), (Every::Steps(200), [0.9, 0.999]));
    /// let error = RunConfig::default().with(&["evaluation.evry=200"]).unwrap_err();
    /// assert_eq!(error.to_string(), "evaluation.evry=200: unknown key `evry`; did you mean `every`?");
    /// # Ok::<(), clip_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// No `=`, an unknown key (the nearest known one is named), a value of the wrong kind. Ranges are checked by
    /// [`check`](Self::check).
    pub fn with(&self, assignments: &[impl AsRef<str>]) -> Result<Self> {
        let mut config = self.clone();
        for assignment in assignments {
            let assignment = assignment.as_ref();
            config = config.set(assignment).map_err(|error| error.file(assignment))?;
        }
        Ok(config)
    }

    fn set(&self, assignment: &str) -> Result<Self> {
        let (key, value) = assignment
            .split_once('=')
            .ok_or_else(|| Error::invalid("no `=` between a key and its value").remedy("write KEY=VALUE"))?;
        let mut table = self.table()?;
        insert(&mut table, key.trim(), parsed(value.trim()))?;
        table.try_into().map_err(|error| read::explain(&error, ""))
    }

    fn table(&self) -> Result<Table> {
        Table::try_from(self.without_nulls()).map_err(write::fault)
    }
}

/// A value as TOML has it, else as a string.
fn parsed(text: &str) -> Value {
    let document: Option<Table> = toml::from_str(&format!("value = {text}\n")).ok();
    let value = document.and_then(|mut table| table.remove("value"));
    value.unwrap_or_else(|| Value::String(text.to_owned()))
}

/// Puts a value under its key, into tables that are made where there are none.
fn insert(table: &mut Table, key: &str, value: Value) -> Result<()> {
    let Some((outer, inner)) = key.split_once('.') else {
        table.insert(key.to_owned(), value);
        return Ok(());
    };
    let entry = table.entry(outer).or_insert_with(|| Value::Table(Table::new()));
    match entry {
        Value::Table(table) => insert(table, inner, value),
        _ => Err(Error::invalid(format!("`{outer}` is no table")).remedy("name a key of run.toml")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimizer::Algorithm;

    #[test]
    fn settings_are_replaced_one_by_one() {
        let config = RunConfig::default();
        let set = |assignments: &[&str]| config.with(assignments).unwrap();
        assert_eq!(set(&[]), config);
        assert_eq!(set(&["lr=1e-6"]).lr, 1e-6);
        assert_eq!(set(&["optimizer=sgd"]).optimizer, Algorithm::Sgd);
        assert_eq!(set(&["optimizer = \"bert_adam\""]).optimizer, Algorithm::BertAdam);
        assert_eq!(set(&["lr=1", "lr=0.5"]).lr, 0.5);
        assert_eq!(set(&["rates.image=0.1"]).rates["image"], 0.1);
        let smooth = set(&["objectives.info_nce.label_smoothing=0.1"]);
        assert_eq!(smooth.objectives["info_nce"]["label_smoothing"], 0.1);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_assignment() {
        for (assignment, message) in [
            ("lr", "lr: no `=` between a key and its value; write KEY=VALUE"),
            ("epoch=3", "epoch=3: unknown key `epoch`; did you mean `epochs`?"),
            ("lr.x=3", "lr.x=3: `lr` is no table; name a key of run.toml"),
        ] {
            let error = RunConfig::default().with(&[assignment]).unwrap_err();
            assert_eq!(error.to_string(), message);
        }
        let error = RunConfig::default().with(&["epochs=three"]).unwrap_err().to_string();
        assert!(
            error.starts_with("epochs=three: ") && error.contains("string"),
            "{error}"
        );
    }
}
