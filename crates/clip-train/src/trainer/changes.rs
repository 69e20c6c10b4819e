//! What a resumed run is told otherwise than before.

use std::collections::{BTreeMap, BTreeSet};

/// Settings, and tables of them, that change no number: where it is started from, who loads and who is told, how often and
/// what is kept.
const OF_NO_NUMBER: [&str; 9] = [
    "cache.directory",
    "cache.memory",
    "checkpoint_every",
    "environment.directory",
    "environment.workers",
    "evaluation.keep_features",
    "keep",
    "log_every",
    "report",
];

fn of_no_number(name: &str) -> bool {
    OF_NO_NUMBER.iter().any(|known| {
        let rest = name.strip_prefix(known);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

/// What a resumed run is told otherwise than before, a sentence a setting.
pub(super) fn changes(before: &str, now: &str) -> Vec<String> {
    let parse = |text: &str| {
        let mut settings = BTreeMap::new();
        flat("", toml::from_str(text).unwrap_or_default(), &mut settings);
        settings
    };
    let (before, now) = (parse(before), parse(now));
    let names: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let differs = names
        .into_iter()
        .filter(|name| !of_no_number(name) && before.get(*name) != now.get(*name));
    let show = |value: Option<&toml::Value>| value.map_or_else(|| "nothing".to_owned(), ToString::to_string);
    differs
        .map(|name| {
            let (old, new) = (show(before.get(name)), show(now.get(name)));
            format!("`{name}` was {old} before and is {new} now, so the numbers are not those of one uninterrupted run")
        })
        .collect()
}

/// Settings under their full names: `queue.capacity`.
fn flat(at: &str, table: toml::Table, settings: &mut BTreeMap<String, toml::Value>) {
    for (name, value) in table {
        let name = if at.is_empty() { name } else { format!("{at}.{name}") };
        match value {
            toml::Value::Table(inner) => flat(&name, inner, settings),
            value => {
                settings.insert(name, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RunConfig;

    #[test]
    fn changed_settings_are_named() {
        let before = RunConfig::default();
        let now = RunConfig {
            lr: 0.5,
            max_steps: Some(3),
            ..before.clone()
        };
        let told = changes(&before.to_toml().unwrap(), &now.to_toml().unwrap());
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(
            told[0].starts_with("`lr` was 0.00005 before and is 0.5 now"),
            "{told:?}"
        );
        assert!(
            told[1].starts_with("`max_steps` was nothing before and is 3 now"),
            "{told:?}"
        );
        assert!(changes(&before.to_toml().unwrap(), &before.to_toml().unwrap()).is_empty());
        // Of a table only what differs is named, and of what changes no number nothing.
        let mut now = before.clone();
        now.log_every += 1;
        now.environment.workers += 1;
        now.report.enabled ^= true;
        now.evaluation.keep_features ^= true;
        now.environment.threads += 1;
        let told = changes(&before.to_toml().unwrap(), &now.to_toml().unwrap());
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].starts_with("`environment.threads` was 0 before and is 1 now"),
            "{told:?}"
        );
    }
}
