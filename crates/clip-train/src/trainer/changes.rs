//! What a resumed run is told otherwise than before.

/// What a resumed run is told otherwise than before, a sentence a setting.
pub(super) fn changes(before: &str, now: &str) -> Vec<String> {
    let parse = |text: &str| {
        let mut table = toml::from_str::<toml::Table>(text).unwrap_or_default();
        if let Some(toml::Value::Table(environment)) = table.get_mut("environment") {
            // Where it is started from changes no number.
            environment.remove("directory");
        }
        table
    };
    let (before, now) = (parse(before), parse(now));
    let mut names: Vec<&String> = before.keys().chain(now.keys()).collect();
    names.sort();
    names.dedup();
    let differs = names.into_iter().filter(|name| before.get(*name) != now.get(*name));
    let show = |value: Option<&toml::Value>| value.map_or_else(|| "nothing".to_owned(), ToString::to_string);
    differs
        .map(|name| {
            let (old, new) = (show(before.get(name)), show(now.get(name)));
            format!("`{name}` was {old} before and is {new} now, so the numbers are not those of one uninterrupted run")
        })
        .collect()
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
    }
}
