//! run.toml as it is written: every key there is, those that are not set as comments.

use clip_core::{Error, Result};
use serde::Serialize;
use serde_json::{Map, Value};
use toml::Table;

/// What the first line of a written file begins with: how a run knows its own file from one that a user wrote.
pub(crate) const HEADER: &str = "# Written by clipzoo ";

pub(super) fn fault(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::internal(format!("settings of the run: {error}")).source(error)
}

/// Settings as TOML. A key without a value stands as `# key: not set` in its place, since TOML has no word for that.
///
/// `settings` are written twice: JSON says which keys there are and in which order, TOML has the values (JSON cannot say
/// `inf`).
pub(super) fn write<T: Serialize>(settings: &T, values: &T) -> Result<String> {
    let keys = match serde_json::to_value(settings).map_err(fault)? {
        Value::Object(keys) => keys,
        _ => return Err(Error::internal("settings of the run are no table")),
    };
    let values = Table::try_from(values).map_err(fault)?;
    let mut out = format!(
        "{HEADER}{}: every setting of the run, defaults included.\n",
        env!("CARGO_PKG_VERSION")
    );
    table(&mut out, "", &keys, &values)?;
    Ok(out)
}

/// Appends a table: its own keys, then the tables in it.
fn table(out: &mut String, path: &str, keys: &Map<String, Value>, values: &Table) -> Result<()> {
    let mut inner = Vec::new();
    for (name, key) in keys {
        match (values.get(name), key) {
            (Some(toml::Value::Table(values)), Value::Object(keys)) => inner.push((name, keys, values)),
            (Some(value), _) => out.push_str(&format!("{} = {value}\n", quoted(name)?)),
            (None, _) => out.push_str(&format!("# {}: not set\n", quoted(name)?)),
        }
    }
    for (name, keys, values) in inner {
        let name = quoted(name)?;
        let path = if path.is_empty() {
            name
        } else {
            format!("{path}.{name}")
        };
        out.push_str(&format!("\n[{path}]\n"));
        table(out, &path, keys, values)?;
    }
    Ok(())
}

/// A key as TOML writes it, in quotes where it needs them.
fn quoted(name: &str) -> Result<String> {
    let line = toml::to_string(&Table::from_iter([(name.to_owned(), true.into())])).map_err(fault)?;
    let key = line.trim_end().strip_suffix(" = true");
    key.map(str::to_owned)
        .ok_or_else(|| Error::internal(format!("the key `{name}` cannot be written")))
}
