//! What is compared: arms, settings and the candidates for the baseline, as `arms.toml` lists them.

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use toml::{Table, Value};

use super::data::VENDORS;

/// Everything that `arms.toml` says.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Plan {
    base: Table,
    pub(super) tuning: Tuning,
    #[serde(rename = "arm")]
    pub(super) arms: Vec<Arm>,
    #[serde(rename = "setting")]
    pub(super) settings: Vec<Setting>,
    /// Pairs of arms that are compared with each other too.
    pub(super) versus: Vec<[String; 2]>,
}

/// How the baseline is chosen.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tuning {
    /// The seed of the runs it is chosen by.
    pub(super) seed: u64,
    #[serde(rename = "candidate")]
    pub(super) candidates: Vec<Candidate>,
}

/// One choice of the baseline's settings.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Candidate {
    pub(super) name: String,
    run: Table,
}

/// What is compared with the baseline.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Arm {
    pub(super) name: String,
    pub(super) says: String,
    /// Whether it stands on the baseline that was chosen.
    #[serde(default = "yes")]
    pub(super) tuned: bool,
    /// Whether concepts are permuted between things.
    #[serde(default)]
    pub(super) shuffled: bool,
    /// The most seeds it is run with, where the setting has more.
    pub(super) seeds: Option<u64>,
    /// The arm whose `run` comes first.
    like: Option<String>,
    #[serde(default)]
    run: Table,
}

fn yes() -> bool {
    true
}

/// Under what circumstances arms are compared.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Setting {
    pub(super) name: String,
    pub(super) says: String,
    #[serde(default)]
    pub(super) language: Language,
    #[serde(default)]
    pub(super) tower: Tower,
    #[serde(default)]
    pub(super) titles: Titles,
    #[serde(default)]
    pub(super) items: Items,
    #[serde(default)]
    pub(super) pairs: Pairs,
    /// Names of arms; `*` for all.
    pub(super) arms: Vec<String>,
    /// Those of all arms that it leaves out.
    #[serde(default)]
    except: Vec<String>,
    #[serde(default = "all_folds")]
    pub(super) folds: Vec<String>,
    /// The first seed.
    #[serde(default = "one")]
    first_seed: u64,
    /// So many seeds, from the first on.
    #[serde(default = "five")]
    seeds: u64,
    /// Candidates that this setting's baseline is chosen from; `*` for all.
    #[serde(default)]
    tuning: Vec<String>,
    /// The setting whose choice it takes over.
    tuned_in: Option<String>,
    #[serde(default)]
    run: Table,
}

fn all_folds() -> Vec<String> {
    VENDORS.map(String::from).to_vec()
}

fn one() -> u64 {
    1
}

fn five() -> u64 {
    5
}

impl Setting {
    /// The seeds of its runs; of an arm with fewer, the first of them.
    pub(super) fn seeds(&self) -> std::ops::Range<u64> {
        self.first_seed..self.first_seed + self.seeds
    }
}

/// Of labels and tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Language {
    #[default]
    En,
    Zh,
}

impl Language {
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::Zh => "zh",
        }
    }
}

/// Which text tower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Tower {
    #[default]
    Pretrained,
    Scratch,
}

/// What training titles are like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Titles {
    #[default]
    Clean,
    Noisy,
}

/// Which things are trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Items {
    /// All; all are asked for.
    #[default]
    All,
    /// All but a draw; only that draw is asked for.
    HeldOut,
}

/// How many pairs of a thing are trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Pairs {
    /// One by each artist.
    #[default]
    All,
    /// One, by an artist drawn for each thing.
    One,
}

impl Plan {
    /// The plan in this folder.
    pub(super) fn read() -> Result<Self> {
        Self::parse(include_str!("arms.toml")).context("in xtask/src/ablation/arms.toml")
    }

    fn parse(text: &str) -> Result<Self> {
        let plan: Self = toml::from_str(text)?;
        for setting in &plan.settings {
            plan.arms_of(setting)?;
            setting.except.iter().try_for_each(|arm| plan.arm(arm).map(|_| ()))?;
            plan.candidates_of(plan.tuner(setting)?)?;
            ensure!(
                setting.arms.iter().any(|arm| arm == "*" || arm == "tuned"),
                "setting {} lacks the baseline",
                setting.name
            );
        }
        plan.arms.iter().try_for_each(|arm| plan.of_arm(arm).map(|_| ()))?;
        plan.versus
            .iter()
            .flatten()
            .try_for_each(|arm| plan.arm(arm).map(|_| ()))?;
        Ok(plan)
    }

    /// A setting by name.
    pub(super) fn setting(&self, name: &str) -> Result<&Setting> {
        let known = || {
            self.settings
                .iter()
                .map(|setting| setting.name.as_str())
                .collect::<Vec<_>>()
        };
        let found = self.settings.iter().find(|setting| setting.name == name);
        found.with_context(|| format!("there is no setting `{name}`: choose from {}", known().join(", ")))
    }

    pub(super) fn arm(&self, name: &str) -> Result<&Arm> {
        let known = || self.arms.iter().map(|arm| arm.name.as_str()).collect::<Vec<_>>();
        let found = self.arms.iter().find(|arm| arm.name == name);
        found.with_context(|| format!("there is no arm `{name}`: choose from {}", known().join(", ")))
    }

    /// The arms of a setting.
    pub(super) fn arms_of(&self, setting: &Setting) -> Result<Vec<&Arm>> {
        if setting.arms == ["*"] {
            let left_out = |arm: &&Arm| setting.except.contains(&arm.name);
            return Ok(self.arms.iter().filter(|arm| !left_out(arm)).collect());
        }
        setting.arms.iter().map(|name| self.arm(name)).collect()
    }

    /// The setting whose runs choose a setting's baseline.
    pub(super) fn tuner<'a>(&'a self, setting: &'a Setting) -> Result<&'a Setting> {
        match &setting.tuned_in {
            None => Ok(setting),
            Some(name) => {
                ensure!(setting.tuning.is_empty(), "setting {} is tuned twice", setting.name);
                self.setting(name)
            }
        }
    }

    /// The candidates of a setting's own tuning.
    pub(super) fn candidates_of(&self, setting: &Setting) -> Result<Vec<&Candidate>> {
        ensure!(
            !setting.tuning.is_empty(),
            "setting {} chooses no baseline",
            setting.name
        );
        if setting.tuning == ["*"] {
            return Ok(self.tuning.candidates.iter().collect());
        }
        let find = |name: &String| {
            let found = self.tuning.candidates.iter().find(|candidate| candidate.name == *name);
            found.with_context(|| format!("there is no candidate `{name}`"))
        };
        setting.tuning.iter().map(find).collect()
    }

    fn of_arm(&self, arm: &Arm) -> Result<Table> {
        let mut run = match &arm.like {
            Some(name) => {
                let like = self.arm(name)?;
                if like.like.is_some() {
                    bail!("arm {} is like {name}, which is like another", arm.name);
                }
                like.run.clone()
            }
            None => Table::new(),
        };
        merge(&mut run, &arm.run);
        Ok(run)
    }

    /// The settings of a run: the base, the baseline as chosen, the setting's own, the arm's.
    pub(super) fn run_of(&self, setting: &Setting, candidate: Option<&Candidate>, arm: Option<&Arm>) -> Result<Table> {
        let mut run = self.base.clone();
        if let Some(candidate) = candidate {
            merge(&mut run, &candidate.run);
        }
        merge(&mut run, &setting.run);
        if let Some(arm) = arm {
            merge(&mut run, &self.of_arm(arm)?);
        }
        Ok(run)
    }
}

/// Lays `over` onto `table`. A table that names its `type` is another thing, and replaces what was there.
pub(super) fn merge(table: &mut Table, over: &Table) {
    for (key, value) in over {
        match (table.get_mut(key), value) {
            (Some(Value::Table(inner)), Value::Table(value)) if !value.contains_key("type") => merge(inner, value),
            _ => {
                table.insert(key.clone(), value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(plan: &Plan, setting: &str, candidate: Option<&str>, arm: Option<&str>) -> Table {
        let candidate = candidate.map(|name| {
            let mut all = plan.tuning.candidates.iter();
            all.find(|candidate| candidate.name == name).unwrap()
        });
        let arm = arm.map(|name| plan.arm(name).unwrap());
        plan.run_of(plan.setting(setting).unwrap(), candidate, arm).unwrap()
    }

    #[test]
    fn an_arm_differs_from_the_baseline_by_its_own_settings_alone() {
        let plan = Plan::read().unwrap();
        for setting in &plan.settings {
            for arm in plan.arms_of(setting).unwrap() {
                let base = run(&plan, &setting.name, Some("smoothing-0.5"), None);
                let mut own = run(&plan, &setting.name, Some("smoothing-0.5"), Some(&arm.name));
                for key in ["queue", "concepts"] {
                    own.remove(key);
                }
                own["data"].as_table_mut().unwrap().remove("caption_share");
                let objectives = own["objectives"].as_table_mut().unwrap();
                objectives.remove("concept_prototypes");
                objectives.remove("nearest_neighbour");
                objectives["info_nce"].as_table_mut().unwrap().remove("soft_targets");
                assert_eq!(own, base, "{} {}", setting.name, arm.name);
            }
        }
    }

    #[test]
    fn controls_differ_from_their_arm_by_the_control() {
        let plan = Plan::read().unwrap();
        let mix = run(&plan, "clean", None, Some("mix"));
        assert_eq!(run(&plan, "clean", None, Some("mix-shuffled")), mix);
        assert!(plan.arm("mix-shuffled").unwrap().shuffled && !plan.arm("mix").unwrap().shuffled);
        let mut random = run(&plan, "clean", None, Some("mix-random"));
        let prototypes = random["objectives"]["concept_prototypes"].as_table_mut().unwrap();
        assert_eq!(prototypes.remove("anchors"), Some(Value::String("random".into())));
        assert_eq!(random, mix);
    }

    #[test]
    fn tables_are_merged_and_types_replaced() {
        let plan = Plan::read().unwrap();
        let scratch = run(&plan, "scratch", Some("dropout-0.3"), None);
        let text = scratch["join"]["text_projection"].as_table().unwrap();
        assert_eq!(text.keys().collect::<Vec<_>>(), ["bias", "type"]);
        assert_eq!(scratch["join"]["image_projection"]["dropout"].as_float(), Some(0.3));
        assert_eq!(scratch["join"]["image_projection"]["hidden"].as_integer(), Some(512));
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let text = include_str!("arms.toml");
        for (from, to) in [
            ("like = \"mix\"", "like = \"mixed\""),
            ("tuned_in = \"clean\"", "tuned_in = \"dirty\""),
            ("tuning = [\"*\"]", "tuning = []"),
            ("arms = [\"*\"]", "arms = [\"mix\"]"),
            ("shuffled = true", "shuffles = true"),
        ] {
            assert!(text.contains(from), "{from}");
            assert!(Plan::parse(&text.replacen(from, to, 1)).is_err(), "{to}");
        }
    }
}
