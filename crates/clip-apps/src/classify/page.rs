//! A classification to look at: what was taken for what, and pictures of it.

use std::collections::BTreeMap;

use clip_core::Result;
use clip_page::{Card, Cards, Exhibit, Facts, Matrix, Page, Picture, Table, Tone, Verdict};

use super::figures::{ClassifyFigures, Sample, Tally};
use super::zero_shot::Classes;
use crate::language::Language;

/// Labels that the matrix shows; of more, those that are mistaken most often.
const SHOWN_CLASSES: usize = 30;

/// Cards of mistakes, of labels found, of labels given: each kind as many.
const SHOWN_CARDS: usize = 12;

/// What [`classify_page`] shows.
#[derive(Clone, Copy)]
pub struct ClassifyPage<'a> {
    /// The page's title.
    pub title: &'a str,
    /// The language of its own words.
    pub language: Language,
    /// Names and values to show on top: model, table, …
    pub facts: &'a [(String, String)],
    /// The labels.
    pub classes: &'a Classes,
    /// What pictures were taken for.
    pub tally: &'a Tally,
    /// A picture by its number, with words for those who do not see it. Small ones.
    pub picture: &'a dyn Fn(u64) -> Result<Picture>,
}

/// A page of the figures, the confusion matrix and the most frequent mistakes where true labels are known, and of the surest
/// pictures of each label.
///
/// # Errors
/// A picture cannot be shown.
pub fn classify_page(shown: &ClassifyPage<'_>) -> Result<Page> {
    let say = |english, chinese| shown.language.say(english, chinese);
    let mut page = Page::new(shown.title, shown.language.tag());
    let facts = shown.facts.iter();
    page.add(&facts.fold(Facts::new(), |facts, (name, value)| facts.fact(name, value)));
    let figures = shown.tally.figures(shown.classes);
    if let Some(figures) = &figures {
        page.add(&shown.summary(figures));
        page.heading(say("What was taken for what", "混淆情况"));
        page.add(&shown.matrix(figures));
        shown.mistakes(&mut page, figures)?;
        page.heading(say("Label by label", "逐个标签"));
        page.add(&shown.class_table(figures));
    }
    shown.found(&mut page, figures.is_some())?;
    Ok(page)
}

impl ClassifyPage<'_> {
    fn summary(&self, figures: &ClassifyFigures) -> Table {
        let say = |english, chinese| self.language.say(english, chinese);
        let caption = self.language.say(
            format!(
                "Of {} pictures with a known label, beside blind guessing and always naming the commonest label",
                figures.pictures
            ),
            format!(
                "{} 张有已知标签的图片；并列随机猜测与总选最常见标签的结果",
                figures.pictures
            ),
        );
        let columns = [
            "",
            say("model", "模型"),
            say("chance", "随机"),
            say("commonest", "最常见"),
        ];
        let figure = |value: f64| format!("{value:.1}");
        let none = || "–".to_owned();
        let first = [
            figure(figures.accuracy_1),
            figure(figures.chance),
            figure(figures.commonest),
        ];
        let mut table = Table::new(caption, columns).row(say("accuracy %", "准确率 %"), first);
        // Of five labels or fewer the right one is always among the first five.
        if figures.labels > 5 {
            let within = [figure(figures.accuracy_5), figure(5.0 * figures.chance), none()];
            table = table.row(say("among first 5 %", "前五含正确 %"), within);
        }
        table.row(
            say("macro F1 %", "宏平均 F1 %"),
            [figure(figures.macro_f1), none(), none()],
        )
    }

    fn matrix(&self, figures: &ClassifyFigures) -> Matrix {
        let chosen = self.most_mistaken(figures);
        let label = |&class: &usize| self.classes.label(class).to_owned();
        let (english, chinese) = if chosen.len() < figures.labels {
            (
                format!(
                    "Pictures of a row's label that were taken for a column's: the {} of {} labels that are mistaken most often",
                    chosen.len(),
                    figures.labels
                ),
                format!(
                    "每行的标签被认作每列标签的图片数：{} 个标签中最常混淆的 {} 个",
                    figures.labels,
                    chosen.len()
                ),
            )
        } else {
            (
                "Pictures of a row's label that were taken for a column's".to_owned(),
                "每行的标签被认作每列标签的图片数".to_owned(),
            )
        };
        let corner = self.language.say("truth ↓ taken for →", "实际 ↓ 认作 →");
        let mut matrix = Matrix::new(self.language.say(english, chinese), corner, chosen.iter().map(label));
        for &truth in &chosen {
            let all = figures.classes.get(truth).map_or(0, |class| class.pictures).max(1);
            let field = |&guess: &usize| {
                let count = self.tally.count(Some(truth), guess);
                let words = if count > 0 { count.to_string() } else { String::new() };
                let tone = if truth == guess { Tone::Good } else { Tone::Bad };
                (words, count as f64 / all as f64, tone)
            };
            matrix = matrix.row(self.classes.label(truth), chosen.iter().map(field));
        }
        matrix
    }

    /// The labels with the most mistakes, as truth or as guess, in the order of the list; all if they are few.
    fn most_mistaken(&self, figures: &ClassifyFigures) -> Vec<usize> {
        let mut mistakes: Vec<(u64, usize)> = (0..figures.labels).map(|class| (0, class)).collect();
        for (truth, guess, count) in self.mistaken() {
            for class in [truth, guess] {
                if let Some((sum, _)) = mistakes.get_mut(class) {
                    *sum += count;
                }
            }
        }
        mistakes.sort_by_key(|&(count, class)| (std::cmp::Reverse(count), class));
        mistakes.truncate(SHOWN_CLASSES);
        let mut chosen: Vec<usize> = mistakes.into_iter().map(|(_, class)| class).collect();
        chosen.sort_unstable();
        chosen
    }

    fn mistaken(&self) -> impl Iterator<Item = (usize, usize, u64)> {
        self.tally
            .pairs()
            .into_iter()
            .filter(|(truth, guess, _)| truth != guess)
    }

    fn mistakes(&self, page: &mut Page, figures: &ClassifyFigures) -> Result<()> {
        let mut cards = Vec::new();
        for (truth, guess, count) in self.mistaken().take(SHOWN_CARDS) {
            let (was, said) = (self.classes.label(truth), self.classes.label(guess));
            let all = figures.classes.get(truth).map_or(0, |class| class.pictures);
            let heading = self
                .language
                .say(format!("{was}, taken for {said}"), format!("{was} 被认作 {said}"));
            let words = self.language.say(
                format!("{count} of {all} pictures"),
                format!("{all} 张图片中的 {count} 张"),
            );
            cards.push(self.card(
                heading,
                Verdict::new(Tone::Bad, words),
                self.tally.samples(Some(truth), guess),
            )?);
        }
        if !cards.is_empty() {
            page.heading(self.language.say("The most frequent mistakes", "最常见的错误"));
            page.paragraph(self.language.say(
                "Of each, the pictures that the model was surest of, with the probability it gave.",
                "每种错误给出模型最有把握的图片及其概率。",
            ));
            page.add(&Cards::new(cards));
        }
        Ok(())
    }

    fn class_table(&self, figures: &ClassifyFigures) -> Table {
        let say = |english, chinese| self.language.say(english, chinese);
        let mut most: BTreeMap<usize, (usize, u64)> = BTreeMap::new();
        for (truth, guess, count) in self.mistaken() {
            most.entry(truth).or_insert((guess, count));
        }
        let columns = [
            "",
            "F1 %",
            say("precision %", "精确率 %"),
            say("recall %", "召回率 %"),
            say("pictures", "图片数"),
            say("most often taken for", "最常被认作"),
        ];
        let caption = say(
            "Precision: of the pictures taken for a label, how many are of it. Recall: of its pictures, how many were taken for it",
            "精确率：被认作某标签的图片中正确的比例。召回率：某标签的图片中被正确认出的比例",
        );
        let figure = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.1}"));
        let mut table = Table::new(caption, columns);
        for (number, class) in figures.classes.iter().enumerate() {
            let mistaken = most
                .get(&number)
                .map(|&(guess, count)| format!("{} ({count})", self.classes.label(guess)));
            let mistaken = mistaken.unwrap_or_else(|| "–".to_owned());
            let cells = [
                figure(class.f1),
                figure(class.precision),
                figure(class.recall),
                class.pictures.to_string(),
                mistaken,
            ];
            table = table.row(class.label.as_str(), cells);
        }
        table
    }

    /// The surest pictures of each label: right ones where that is known, all others below.
    fn found(&self, page: &mut Page, known: bool) -> Result<()> {
        let say = |english, chinese| self.language.say(english, chinese);
        if known {
            let right = (0..self.classes.len()).map(|class| (Some(class), class));
            self.section(page, say("Right, and sure of it", "正确且最有把握"), Tone::Good, right)?;
        }
        let given = (0..self.classes.len()).map(|class| (None, class));
        self.section(page, say("Labels given", "给出的标签"), Tone::Plain, given)
    }

    /// Cards of the commonest of some pairs of truth and guess; nothing where none occurs.
    fn section(
        &self,
        page: &mut Page,
        heading: &str,
        tone: Tone,
        pairs: impl Iterator<Item = (Option<usize>, usize)>,
    ) -> Result<()> {
        let counted = pairs.map(|(truth, guess)| (self.tally.count(truth, guess), truth, guess));
        let mut pairs: Vec<_> = counted.filter(|&(count, ..)| count > 0).collect();
        if pairs.is_empty() {
            return Ok(());
        }
        pairs.sort_by_key(|&(count, ..)| std::cmp::Reverse(count));
        page.heading(heading);
        if pairs.len() > SHOWN_CARDS {
            page.paragraph(&self.language.say(
                format!("The {SHOWN_CARDS} commonest of {} labels.", pairs.len()),
                format!("{} 个标签中最常见的 {SHOWN_CARDS} 个。", pairs.len()),
            ));
        }
        let mut cards = Vec::new();
        for (count, truth, guess) in pairs.into_iter().take(SHOWN_CARDS) {
            let english = if count == 1 {
                "1 picture".to_owned()
            } else {
                format!("{count} pictures")
            };
            let words = self.language.say(english, format!("{count} 张图片"));
            cards.push(self.card(
                self.classes.label(guess),
                Verdict::new(tone, words),
                self.tally.samples(truth, guess),
            )?);
        }
        page.add(&Cards::new(cards));
        Ok(())
    }

    fn card(&self, heading: impl Into<String>, verdict: Verdict, samples: &[Sample]) -> Result<Card> {
        let mut card = Card::new(Exhibit::words(heading), verdict);
        for sample in samples {
            let picture = Exhibit::picture((self.picture)(sample.row)?, "");
            card = card.answer(picture, format!("{:.1} %", 100.0 * sample.probability), None);
        }
        Ok(card)
    }
}

#[cfg(test)]
mod tests {
    use super::super::zero_shot::{Class, Guess};
    use super::*;

    fn page(language: Language, labels: usize, rows: &[(Option<usize>, usize)]) -> String {
        let class = |number: usize| Class {
            label: format!("label<{number}>"),
            synonyms: Vec::new(),
        };
        let classes = Classes::new((0..labels).map(class).collect()).unwrap();
        let mut tally = Tally::default();
        for (row, &(truth, class)) in rows.iter().enumerate() {
            let guess = Guess {
                class,
                score: 0.1,
                probability: 0.5,
            };
            tally.add(row as u64, truth, &[guess]);
        }
        let shown = ClassifyPage {
            title: "Test",
            language,
            facts: &[("Model".into(), "m".into())],
            classes: &classes,
            tally: &tally,
            picture: &|row| Picture::new(b"GIF89a", format!("picture {row}")),
        };
        classify_page(&shown).unwrap().render()
    }

    #[test]
    fn mistakes_are_counted_and_shown() {
        let html = page(
            Language::English,
            3,
            &[(Some(0), 0), (Some(0), 1), (Some(0), 1), (Some(1), 1)],
        );
        assert!(html.contains("label&lt;0&gt;, taken for label&lt;1&gt;") && html.contains("2 of 3 pictures"));
        // Two of three are six eighths of a full shade.
        assert!(html.contains("<td class=\"bad shade6\">2</td>") && html.contains("<td class=\"good shade8\">1</td>"));
        assert!(html.contains("Right, and sure of it") && !html.contains("Labels given"));
        assert_eq!(html.matches("alt=\"picture").count(), 4);
    }

    #[test]
    fn without_truth_there_are_no_figures_and_in_chinese_no_english_words() {
        let html = page(Language::Chinese, 3, &[(None, 2), (None, 2)]);
        assert!(html.contains("lang=\"zh-Hans\"") && html.contains("给出的标签") && html.contains("2 张图片"));
        assert!(!html.contains("F1") && !html.contains("Labels given"));
        let known = page(Language::Chinese, 3, &[(Some(1), 2), (Some(2), 2)]);
        for words in [
            "accuracy",
            "precision",
            "chance",
            "commonest",
            "taken",
            "mistake",
            "sure",
        ] {
            assert!(!known.split("</style>").nth(1).unwrap().contains(words), "{words}");
        }
    }

    #[test]
    fn of_many_labels_the_matrix_shows_those_that_are_mistaken() {
        let rows: Vec<_> = (0..200)
            .map(|row| (Some(row % 100), if row % 100 < 97 { row % 100 } else { 50 }))
            .collect();
        let html = page(Language::English, 100, &rows);
        assert!(html.contains("the 30 of 100 labels that are mistaken most often"));
        let matrix = html
            .split("<table class=\"matrix\">")
            .nth(1)
            .unwrap()
            .split("</table>")
            .next()
            .unwrap();
        assert!(
            ["label&lt;50&gt;", "label&lt;97&gt;", "label&lt;99&gt;"]
                .iter()
                .all(|label| matrix.contains(label))
        );
        assert_eq!(matrix.matches("<tr>").count(), 31);
    }
}
