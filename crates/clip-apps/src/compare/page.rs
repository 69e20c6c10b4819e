//! A comparison to look at: both models' pictures beside each other, query by query.

use clip_core::{Id, Result};
use clip_page::{Exhibit, Facts, Page, Picture, Side, Table, Tone, Verdict, Versus};

use super::{Compared, Comparison, FoundBy, Judged, Winner};
use crate::language::Language;
use crate::relevance::Relevance;

/// What the models are called beside their pictures, where their own names would be too long.
const LETTERS: [&str; 2] = ["A", "B"];

/// What [`compare_page`] shows.
#[derive(Clone, Copy)]
pub struct ComparePage<'a> {
    /// The page's title.
    pub title: &'a str,
    /// The language of its own words.
    pub language: Language,
    /// What the two models are called.
    pub names: [&'a str; 2],
    /// Further names and values to show on top: the table, …
    pub facts: &'a [(String, String)],
    /// What was found.
    pub comparison: &'a Comparison,
    /// What is right, where it is known.
    pub relevance: Option<&'a Relevance>,
    /// The words of a query, by number.
    pub query: &'a dyn Fn(usize) -> String,
    /// The picture of a gallery row, with words for those who do not see it. Small ones: each is written as often as it is shown.
    pub picture: &'a dyn Fn(usize) -> Result<Picture>,
    /// The most queries to show. Of more, the seed draws.
    pub queries: usize,
    /// Decides which queries are drawn.
    pub seed: u64,
}

/// A page of a comparison: its summary, and for each query the first pictures of both models side by side, with marks where
/// they differ.
///
/// # Errors
/// A picture cannot be shown.
pub fn compare_page(shown: &ComparePage<'_>) -> Result<Page> {
    let mut page = Page::new(shown.title, shown.language.tag());
    page.add(&shown.facts());
    let summary = &shown.comparison.summary;
    if let Some(judged) = &summary.judged {
        page.heading(shown.language.say("Who finds what is right", "谁找得更准"));
        page.paragraph(&shown.outcome(judged));
        page.add(&shown.figures(judged));
    }
    page.heading(shown.language.say("Query by query", "逐条查询"));
    let drawn = shown.draw();
    page.paragraph(&shown.legend(drawn.len()));
    for query in drawn {
        if let Some(compared) = shown.comparison.queries.get(query) {
            page.add(&shown.versus(query, compared)?);
        }
    }
    Ok(page)
}

impl ComparePage<'_> {
    fn facts(&self) -> Facts {
        let say = |english: &str, chinese: &str| self.language.say(english, chinese).to_owned();
        let summary = &self.comparison.summary;
        let [a, b] = self.names;
        let top = summary.top;
        let facts = Facts::new()
            .fact(say("Model A", "模型 A"), a)
            .fact(say("Model B", "模型 B"), b);
        let facts = self
            .facts
            .iter()
            .fold(facts, |facts, (name, value)| facts.fact(name, value));
        facts
            .fact(say("Queries", "查询数"), summary.queries.to_string())
            .fact(say("Pictures", "图片数"), summary.gallery.to_string())
            .fact(
                self.language.say(
                    format!("Shared among the first {top}"),
                    format!("前 {top} 个结果的重合度"),
                ),
                format!("{:.1} %", summary.overlap),
            )
            .fact(
                say("Same picture first", "首个结果相同"),
                format!("{:.1} %", summary.same_first),
            )
    }

    fn outcome(&self, judged: &Judged) -> String {
        let Judged {
            queries,
            wins_a,
            wins_b,
            draws,
            neither,
            ..
        } = judged;
        let top = self.comparison.summary.top;
        let wins = |wins: &usize| {
            if *wins == 1 {
                "1 query".to_owned()
            } else {
                format!("{wins} queries")
            }
        };
        let english = format!(
            "Of {queries} queries with a known right picture A wins {} and B {}: the winner shows a right picture among the first \
             {top}, and further ahead than the other. In {draws} both show it at the same place, in {neither} neither shows it. Two \
             equally good models would share the wins as unevenly, or more so, with a chance of {}.",
            wins(wins_a),
            wins(wins_b),
            judged.sign_test_shown()
        );
        let chinese = format!(
            "在已知正确图片的 {queries} 条查询中，A 胜 {wins_a} 条，B 胜 {wins_b} 条：胜者在前 {top} 个结果中给出正确图片，且排位更靠前。\
             两者排位相同的有 {draws} 条，两者都未给出的有 {neither} 条。若两个模型同样好，胜负至少如此悬殊的概率为 {}。",
            judged.sign_test_shown()
        );
        self.language.say(english, chinese)
    }

    fn figures(&self, judged: &Judged) -> Table {
        let say = |english, chinese| self.language.say(english, chinese);
        let caption = say(
            "Recall: queries with a right picture among the first k of the whole gallery",
            "召回率：在整个图库的前 k 个结果中含正确图片的查询所占比例",
        );
        let (a, b) = (&judged.a, &judged.b);
        let percent = |a: f64, b: f64| [format!("{a:.1}"), format!("{b:.1}")];
        Table::new(caption, ["", "A", "B"])
            .row("R@1 %", percent(a.recall_1, b.recall_1))
            .row("R@5 %", percent(a.recall_5, b.recall_5))
            .row("R@10 %", percent(a.recall_10, b.recall_10))
            .row("MRR", [format!("{:.3}", a.mrr), format!("{:.3}", b.mrr)])
            .row(say("median rank", "排位中位数"), percent(a.median_rank, b.median_rank))
            .row(
                say("queries won", "获胜查询数"),
                [judged.wins_a.to_string(), judged.wins_b.to_string()],
            )
    }

    fn legend(&self, drawn: usize) -> String {
        let summary = &self.comparison.summary;
        let (all, top, seed) = (summary.queries, summary.top, self.seed);
        let mut words = if drawn < all {
            self.language.say(
                format!("{drawn} of {all} queries, drawn with seed {seed}. "),
                format!("共 {all} 条查询，以种子 {seed} 抽取 {drawn} 条。"),
            )
        } else {
            String::new()
        };
        words += &self.language.say(
            format!(
                "Below each picture stands its score (cosine); scores of two models cannot be compared with each other. \
                 “only A” marks what the other does not show among its first {top}, “B: 3” the place that the other gives it where it \
                 is another one."
            ),
            format!(
                "每张图片下方为其得分（余弦相似度），两个模型的得分不可互相比较。“仅 A”表示另一模型的前 {top} 个结果中没有该图片；\
                 “B:3”表示另一模型给它的不同名次。"
            ),
        );
        words
    }

    /// The queries to show, in their own order.
    fn draw(&self) -> Vec<usize> {
        let mut queries: Vec<usize> = (0..self.comparison.queries.len()).collect();
        if queries.len() > self.queries {
            let stream = format!("compare by seed {}", self.seed);
            queries.sort_by_cached_key(|&query| Id::of_row(&stream, query as u64));
            queries.truncate(self.queries);
            queries.sort_unstable();
        }
        queries
    }

    fn versus(&self, query: usize, compared: &Compared) -> Result<Versus> {
        let top = self.comparison.summary.top;
        let shown = top.min(self.comparison.summary.gallery);
        let common = compared.common;
        let shared = self.language.say(
            format!("{common} of {shown} in common"),
            format!("{shown} 个结果中 {common} 个相同"),
        );
        let outcome = compared.winner(top).map(|winner| match winner {
            Winner::A => self.language.say("A wins", "A 胜"),
            Winner::B => self.language.say("B wins", "B 胜"),
            Winner::Draw => self.language.say("a draw", "平局"),
            Winner::Neither => self.language.say("neither finds it", "均未找到"),
        });
        let words = outcome.map_or(shared.clone(), |outcome| format!("{outcome} · {shared}"));
        let right = self
            .relevance
            .map_or_else(Vec::new, |relevance| relevance.positives().rows(query));
        let [a, b] = &compared.sides;
        let sides = [self.side(0, a, b, &right)?, self.side(1, b, a, &right)?];
        Ok(Versus::new(
            Exhibit::words((self.query)(query)),
            Verdict::new(Tone::Plain, words),
            sides,
        ))
    }

    /// What one model shows, marked by what the other shows and by what is right.
    fn side(&self, number: usize, own: &FoundBy, other: &FoundBy, right: &[usize]) -> Result<Side> {
        let (letter, others) = (LETTERS[number % 2], LETTERS[(number + 1) % 2]);
        let mut side = Side::new(letter, self.verdict(own.rank));
        for (place, hit) in own.hits.iter().enumerate() {
            let at = other.hits.iter().position(|found| found.row == hit.row);
            let mut marks = Vec::new();
            if right.binary_search(&hit.row).is_ok() {
                marks.push(Verdict::new(Tone::Good, self.language.say("right", "正确")));
            }
            if at.is_none() {
                let words = self.language.say(format!("only {letter}"), format!("仅 {letter}"));
                marks.push(Verdict::new(Tone::Apart, words));
            }
            let elsewhere = at.filter(|&at| at != place).map(|at| {
                self.language
                    .say(format!(" · {others}: {}", at + 1), format!(" · {others}:{}", at + 1))
            });
            let figure = format!("{:.3}{}", hit.score, elsewhere.unwrap_or_default());
            side = side.answer(Exhibit::picture((self.picture)(hit.row)?, ""), figure, marks);
        }
        Ok(side)
    }

    /// Where a right picture stands.
    fn verdict(&self, rank: Option<u32>) -> Verdict {
        let top = self.comparison.summary.top;
        match rank {
            None => Verdict::default(),
            Some(1) => Verdict::new(Tone::Good, self.language.say("right first", "首个即正确")),
            Some(rank) if rank as usize <= top => Verdict::new(
                Tone::Plain,
                self.language
                    .say(format!("right at {rank}"), format!("正确项第 {rank} 位")),
            ),
            Some(rank) => Verdict::new(
                Tone::Bad,
                self.language
                    .say(format!("missed, at {rank}"), format!("未命中，第 {rank} 位")),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use clip_core::Embeddings;
    use clip_index::Options;

    use super::super::{Contender, compare};
    use super::*;

    /// Five pictures on an arc; model B sees them in the opposite order.
    fn page(language: Language, judged: bool, queries: usize) -> String {
        let arc = |turn: &dyn Fn(f32) -> f32| {
            let rows = (0..5).flat_map(|row| [turn(row as f32).cos(), turn(row as f32).sin()]);
            Embeddings::new(rows.collect(), 2).unwrap()
        };
        let (forth, back) = (arc(&|row| row * 0.3), arc(&|row| (4.0 - row) * 0.3));
        let sides = [(&forth, &forth), (&forth, &back)].map(|(queries, gallery)| Contender { queries, gallery });
        let relevance = judged.then(Relevance::diagonal);
        let comparison = compare(sides, relevance.as_ref(), 2, Options::default()).unwrap();
        let shown = ComparePage {
            title: "Two <models>",
            language,
            names: ["before", "after"],
            facts: &[],
            comparison: &comparison,
            relevance: relevance.as_ref(),
            query: &|query| format!("query {query}"),
            picture: &|row| Picture::new(b"GIF89a", format!("picture {row}")),
            queries,
            seed: 3,
        };
        compare_page(&shown).unwrap().render()
    }

    #[test]
    fn differences_and_what_is_right_are_marked() {
        let html = page(Language::English, true, 10);
        assert!(html.contains("Two &lt;models&gt;") && html.contains("before") && html.contains("after"));
        // The middle picture is the same for both; the first query finds its own with A, the last one's with B.
        assert!(
            html.contains("A wins 4 queries and B 0 queries") && html.contains("In 1 both show it"),
            "{html}"
        );
        assert_eq!(html.matches("A wins · ").count(), 4);
        assert_eq!(html.matches(">right</span>").count(), 6);
        assert_eq!(html.matches("missed, at ").count(), 4);
        assert!(html.contains(">only A</span>") && html.contains(">only B</span>"));
        assert!(!html.contains("drawn with seed"));
    }

    #[test]
    fn few_of_many_queries_are_drawn_and_said_to_be() {
        let html = page(Language::English, false, 2);
        assert_eq!(html.matches("class=\"card versus\"").count(), 2);
        assert!(html.contains("2 of 5 queries, drawn with seed 3"));
        assert!(!html.contains("wins") && !html.contains("R@1") && !html.contains("missed"));
    }

    #[test]
    fn in_chinese_no_english_words_are_left() {
        let html = page(Language::Chinese, true, 10);
        assert!(html.contains("lang=\"zh-Hans\"") && html.contains("仅 A") && html.contains("A 胜 4 条"));
        let body = html.split("<main>").nth(1).unwrap();
        for words in ["only", "wins", "right", "missed", "queries", "Model", "first", "median"] {
            assert!(!body.contains(words), "{words}");
        }
    }
}
