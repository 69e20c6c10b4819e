//! What a run's features are worth: ranks of the right answers both ways, and precision of concept queries.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

/// Rows of features.
pub(super) struct Rows {
    values: Vec<f32>,
    dim: usize,
}

impl Rows {
    fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.dim..(row + 1) * self.dim]
    }

    fn len(&self) -> usize {
        self.values.len() / self.dim.max(1)
    }
}

/// Reads a tensor of f32 `[N, D]` from a safetensors file's bytes.
pub(super) fn rows(bytes: &[u8], name: &str) -> Result<Rows> {
    let (length, rest) = bytes.split_first_chunk().context("the file ends in its header")?;
    let length = usize::try_from(u64::from_le_bytes(*length))?;
    let (header, data) = rest.split_at_checked(length).context("the file ends in its header")?;
    let header: Value = serde_json::from_slice(header).context("the header is no JSON")?;
    let entry = &header[name];
    ensure!(entry["dtype"] == "F32", "there is no tensor `{name}` of f32");
    let numbers = |key: &str| -> Option<Vec<usize>> {
        let list = entry[key].as_array()?;
        list.iter().map(|value| usize::try_from(value.as_u64()?).ok()).collect()
    };
    let (Some([from, to]), Some([count, dim])) = (
        numbers("data_offsets").as_deref().map(two),
        numbers("shape").as_deref().map(two),
    ) else {
        bail!("`{name}` is no rows");
    };
    let data = data.get(from..to).context("the file ends in its data")?;
    ensure!(
        data.len() == 4 * count * dim,
        "`{name}` is of another size than its shape"
    );
    let (chunks, _) = data.as_chunks();
    let values = chunks.iter().map(|four| f32::from_le_bytes(*four)).collect();
    Ok(Rows { values, dim })
}

fn two(list: &[usize]) -> [usize; 2] {
    match list {
        [a, b] => [*a, *b],
        _ => [0, 0],
    }
}

/// What is asked, in the order of the table that was evaluated: a row a thing, then a row a concept.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Questions {
    /// Whether a thing is asked for and counts as an answer to a concept; all things are candidates of recall.
    pub(super) tested: Vec<bool>,
    /// The concepts.
    pub(super) concepts: Vec<Concept>,
}

/// A concept's name as a query.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Concept {
    pub(super) name: String,
    /// Whether training may use it.
    pub(super) known: bool,
    /// Things that carry it.
    pub(super) members: Vec<usize>,
    /// Things that are called by it: neither right nor wrong answers, since that is their identity and no concept.
    pub(super) namesakes: Vec<usize>,
}

/// A run's answers, one a query.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answers {
    /// The rank of the thing's own picture among all pictures, from 1; 0 for a thing that is not asked for.
    pub(super) text_to_image: Vec<usize>,
    /// The rank of the picture's own text among all texts.
    pub(super) image_to_text: Vec<usize>,
    /// Average precision of each concept, 0 to 1; `NaN` where no tested thing carries it.
    pub(super) average_precision: Vec<f64>,
    /// The share of right answers among the first ten.
    pub(super) precision_10: Vec<f64>,
}

/// Answers all questions with the features in `path`.
pub(super) fn answer(path: &Path, questions: &Questions) -> Result<Answers> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let read = |name| rows(&bytes, name).with_context(|| format!("in {}", path.display()));
    let (texts, images) = (read("text_features")?, read("image_features")?);
    let (things, concepts) = (questions.tested.len(), questions.concepts.len());
    ensure!(
        texts.len() == things + concepts && images.len() == texts.len() && texts.dim == images.dim,
        "{} holds {} rows for {things} things and {concepts} concepts",
        path.display(),
        texts.len()
    );
    let scores: Vec<Vec<f64>> = (0..things + concepts)
        .map(|text| {
            (0..things)
                .map(|image| dot(texts.row(text), images.row(image)))
                .collect()
        })
        .collect();
    ensure!(
        scores.iter().flatten().all(|score| score.is_finite()),
        "{} holds features that are not numbers",
        path.display()
    );
    let (square, queries) = scores.split_at(things);
    let rank = |thing: usize, score: &dyn Fn(usize) -> f64| {
        // A tie counts against.
        let others = (0..things).filter(|other| *other != thing && score(*other) >= score(thing));
        if questions.tested[thing] { 1 + others.count() } else { 0 }
    };
    let of_concepts = questions.concepts.iter().zip(queries);
    let (average_precision, precision_10) = of_concepts
        .map(|(concept, scores)| precision(scores, concept, &questions.tested))
        .unzip();
    Ok(Answers {
        text_to_image: (0..things).map(|i| rank(i, &|j| square[i][j])).collect(),
        image_to_text: (0..things).map(|i| rank(i, &|j| square[j][i])).collect(),
        average_precision,
        precision_10,
    })
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

/// Average precision (the mean, over right answers, of the precision at their ranks) and precision at 10 of a ranking by
/// falling score. Among equal scores the wrong answers come first.
fn precision(scores: &[f64], concept: &Concept, tested: &[bool]) -> (f64, f64) {
    let candidate = |thing: &usize| tested[*thing] && !concept.namesakes.contains(thing);
    let mut order: Vec<(f64, bool)> = (0..tested.len())
        .filter(candidate)
        .map(|thing| (scores[thing], concept.members.contains(&thing)))
        .collect();
    order.sort_by(|(a, right_a), (b, right_b)| b.total_cmp(a).then(right_a.cmp(right_b)));
    let (mut right, mut sum, mut first_ten) = (0, 0.0, 0);
    for (place, (_, is_right)) in (1..).zip(&order) {
        if *is_right {
            right += 1;
            sum += f64::from(right) / f64::from(place);
            first_ten += u32::from(place <= 10);
        }
    }
    if right == 0 {
        return (f64::NAN, f64::NAN);
    }
    (sum / f64::from(right), f64::from(first_ten) / 10.0)
}

impl Answers {
    /// A hit (100) or a miss (0) within the first `k` for each thing, both ways averaged; `NaN` for what is not asked.
    pub(super) fn recall(&self, k: usize) -> Vec<f64> {
        let hit = |rank: usize| if rank <= k { 50.0 } else { 0.0 };
        let both = self.text_to_image.iter().zip(&self.image_to_text);
        both.map(|(forth, back)| {
            if *forth == 0 {
                f64::NAN
            } else {
                hit(*forth) + hit(*back)
            }
        })
        .collect()
    }

    /// Average precision of the known or of the new concepts in percent, `NaN` in the places of the others.
    pub(super) fn precision(&self, questions: &Questions, known: bool) -> Vec<f64> {
        of_kind(&self.average_precision, questions, known)
    }

    /// Precision at ten, likewise.
    pub(super) fn precision_10(&self, questions: &Questions, known: bool) -> Vec<f64> {
        of_kind(&self.precision_10, questions, known)
    }

    /// As kept in a file.
    pub(super) fn to_json(&self) -> Value {
        let kept = |values: &[f64]| -> Vec<Value> {
            let rounded = values.iter().map(|value| (value * 1e6).round() / 1e6);
            rounded
                .map(|value| if value.is_nan() { Value::Null } else { json!(value) })
                .collect()
        };
        json!({
            "text_to_image": self.text_to_image, "image_to_text": self.image_to_text,
            "average_precision": kept(&self.average_precision), "precision_10": kept(&self.precision_10),
        })
    }

    /// Reads what [`to_json`](Self::to_json) gave.
    pub(super) fn from_json(value: &Value) -> Option<Self> {
        let ranks = |key: &str| -> Option<Vec<usize>> {
            let list = value[key].as_array()?;
            list.iter().map(|rank| usize::try_from(rank.as_u64()?).ok()).collect()
        };
        let shares = |key: &str| -> Option<Vec<f64>> {
            Some(
                value[key]
                    .as_array()?
                    .iter()
                    .map(|share| share.as_f64().unwrap_or(f64::NAN))
                    .collect(),
            )
        };
        Some(Self {
            text_to_image: ranks("text_to_image")?,
            image_to_text: ranks("image_to_text")?,
            average_precision: shares("average_precision")?,
            precision_10: shares("precision_10")?,
        })
    }
}

fn of_kind(values: &[f64], questions: &Questions, known: bool) -> Vec<f64> {
    let pairs = values.iter().zip(&questions.concepts);
    pairs
        .map(|(value, concept)| {
            if concept.known == known {
                100.0 * value
            } else {
                f64::NAN
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::draw::Draw;
    use super::*;

    fn concept(members: &[usize], namesakes: &[usize]) -> Concept {
        Concept {
            name: "c".into(),
            known: true,
            members: members.to_vec(),
            namesakes: namesakes.to_vec(),
        }
    }

    /// Average precision by its definition: for each right answer, count who stands before it.
    fn naive(scores: &[f64], concept: &Concept, tested: &[bool]) -> f64 {
        let candidates: Vec<usize> = (0..scores.len())
            .filter(|i| tested[*i] && !concept.namesakes.contains(i))
            .collect();
        let members: Vec<usize> = candidates
            .iter()
            .copied()
            .filter(|i| concept.members.contains(i))
            .collect();
        let mut sum = 0.0;
        for member in &members {
            let before = candidates.iter().filter(|i| scores[**i] > scores[*member]).count();
            let right = members.iter().filter(|i| scores[**i] > scores[*member]).count();
            sum += (right + 1) as f64 / (before + 1) as f64;
        }
        sum / members.len() as f64
    }

    #[test]
    fn precision_is_that_of_the_definition() {
        let mut draw = Draw::of("precision", 0);
        for _ in 0..50 {
            let count = 5 + draw.below(60);
            let scores: Vec<f64> = (0..count).map(|_| draw.share()).collect();
            let tested: Vec<bool> = (0..count).map(|i| i < 3 || draw.share() < 0.8).collect();
            let concept = concept(&[0, 2, count - 1], &[1]);
            let (found, _) = precision(&scores, &concept, &tested);
            assert!((found - naive(&scores, &concept, &tested)).abs() < 1e-12);
        }
        assert!(precision(&[0.1, 0.2], &concept(&[1], &[]), &[true, false]).0.is_nan());
    }

    #[test]
    fn a_tie_counts_against_and_the_first_ten_are_ten() {
        let (average, ten) = precision(&[0.5; 20], &concept(&[0, 1], &[]), &[true; 20]);
        assert!((average - (1.0 / 19.0 + 2.0 / 20.0) / 2.0).abs() < 1e-12);
        assert_eq!(ten, 0.0);
        let falling: Vec<f64> = (0..20).map(|i| -f64::from(i)).collect();
        assert_eq!(precision(&falling, &concept(&[0, 1, 19], &[]), &[true; 20]).1, 0.2);
    }

    /// A safetensors file of text and image features.
    fn file(texts: &[[f32; 2]], images: &[[f32; 2]]) -> Vec<u8> {
        let bytes = |rows: &[[f32; 2]]| -> Vec<u8> { rows.iter().flatten().flat_map(|v| v.to_le_bytes()).collect() };
        let (texts_bytes, images_bytes) = (bytes(texts), bytes(images));
        let header = json!({
            "text_features": {"dtype": "F32", "shape": [texts.len(), 2], "data_offsets": [0, texts_bytes.len()]},
            "image_features": {"dtype": "F32", "shape": [images.len(), 2],
                "data_offsets": [texts_bytes.len(), texts_bytes.len() + images_bytes.len()]},
        })
        .to_string();
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header.as_bytes());
        file.extend(texts_bytes);
        file.extend(images_bytes);
        file
    }

    #[test]
    fn ranks_go_both_ways_and_only_tested_things_are_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("valid.safetensors");
        // Text 0 finds its own; text 1 finds picture 0 before its own; thing 2 is not asked for but stands in the way.
        let texts = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [0.0, 1.0]];
        let images = [[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [1.0, 0.0]];
        std::fs::write(&path, file(&texts, &images)).unwrap();
        let questions = Questions {
            tested: vec![true, true, false],
            concepts: vec![concept(&[1, 2], &[])],
        };
        let answers = answer(&path, &questions).unwrap();
        assert_eq!(answers.text_to_image, [1, 3, 0]);
        assert_eq!(answers.image_to_text, [1, 2, 0]);
        assert_eq!(answers.average_precision, [1.0]);
        assert_eq!(&answers.recall(1)[..2], [100.0, 0.0]);
        assert_eq!(&answers.recall(2)[..2], [100.0, 50.0]);
        assert!(answers.recall(1)[2].is_nan());
        let again = Answers::from_json(&answers.to_json()).unwrap();
        assert_eq!(again, answers);
        assert_eq!(answers.precision(&questions, true), [100.0]);
        let short = Questions {
            tested: vec![true; 3],
            concepts: Vec::new(),
        };
        assert!(super::answer(&path, &short).is_err());
        assert!(rows(&std::fs::read(&path).unwrap()[..40], "text_features").is_err());
    }
}
