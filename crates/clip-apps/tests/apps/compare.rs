//! Comparison: two models over one gallery, against its definition and as an app.

use clip_apps::{Compare, Contender, Relevance, Winner, compare};
use clip_core::serde_json::json;
use clip_core::{Embedder, Embeddings, Endpoint, Kind};
use clip_index::{Options, PositiveLists};
use proptest::prelude::*;

use super::letters::worker;

const TITLES: [&str; 4] = ["banana", "cherry", "cab", "berry"];

/// Model B saw other pictures under the same ids.
fn app() -> Compare {
    let [a, b] = [worker(), worker()];
    let galleries = [
        a.embed_texts(&TITLES).unwrap(),
        b.embed_texts(&["berry", "cherry", "cab", "banana"]).unwrap(),
    ];
    Compare::new([a, b], galleries, ["p1", "p2", "p3", "p4"].map(str::to_owned).to_vec()).unwrap()
}

#[test]
fn models_are_compared_by_what_is_right() {
    let request = json!({ "texts": ["bananas", "cab", "bananas"], "relevant": [["p1"], ["p3", "p2"], []], "k": 2 });
    let answer = app().call(request).unwrap();
    let queries = &answer["queries"];
    assert_eq!(
        (&queries[0]["a"][0]["id"], &queries[0]["b"][0]["id"]),
        (&json!("p1"), &json!("p4"))
    );
    assert_eq!(
        [&queries[0]["winner"], &queries[1]["winner"], &queries[2]["winner"]],
        [&json!("a"), &json!("draw"), &json!(null)]
    );
    let (summary, judged) = (&answer["summary"], &answer["summary"]["judged"]);
    assert_eq!(
        (&summary["queries"], &summary["gallery"], &summary["top"]),
        (&json!(3), &json!(4), &json!(2))
    );
    assert_eq!(
        (
            &judged["queries"],
            &judged["wins_a"],
            &judged["wins_b"],
            &judged["draws"]
        ),
        (&json!(2), &json!(1), &json!(0), &json!(1))
    );
    assert_eq!(
        (&judged["a"]["r@1"], &judged["b"]["r@1"], &judged["sign_test"]),
        (&json!(100.0), &json!(50.0), &json!(1.0))
    );
    // Without a relevance nobody wins anything.
    let answer = app().call(json!({ "texts": ["cab"] })).unwrap();
    assert_eq!(
        (&answer["summary"]["judged"], &answer["queries"][0]["winner"]),
        (&json!(null), &json!(null))
    );
    assert_eq!(
        (&answer["summary"]["same_first"], &answer["summary"]["overlap"]),
        (&json!(100.0), &json!(100.0))
    );
}

#[test]
fn bad_requests_are_refused() {
    for (request, what) in [
        (json!({ "texts": [] }), "0 queries over 4 pictures"),
        (json!({ "texts": ["a"], "k": 0 }), "0 shown"),
        (
            json!({ "texts": ["a"], "relevant": [] , "k": 1001 }),
            "1 queries of 1001 hits",
        ),
        (
            json!({ "texts": ["a"], "relevant": [["p1"], []] }),
            "column `relevant`: 2 lists of right rows for 1 texts",
        ),
        (
            json!({ "texts": ["a"], "relevant": [["p9"]] }),
            "column `relevant[0]`: no row has the id `p9`",
        ),
        (
            json!({ "texts": ["a"], "relevant": [[]] }),
            "no query has a right answer",
        ),
    ] {
        let error = app().call(request).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        assert!(error.to_string().contains(what), "{error}");
    }
    let gallery = || worker().embed_texts(&["a", "b"]).unwrap();
    let new = |galleries, ids: &[&str]| {
        let ids = ids.iter().map(|&id| id.into()).collect();
        Compare::new([worker(), worker()], galleries, ids)
            .err()
            .unwrap()
            .to_string()
    };
    assert_eq!(new([gallery(), gallery()], &["p"]), "1 ids for a gallery of 2 rows");
    assert_eq!(
        new([gallery(), gallery()], &["p", "p"]),
        "the id `p` stands for two rows"
    );
    let other = Embeddings::new(vec![1.0; 8], 4).unwrap();
    assert!(new([gallery(), other], &["p", "q"]).starts_with("a gallery of 4 dimensions, a model of 26"));
}

/// Unit rows along the axes of four dimensions, where every score is exact and many tie.
fn rows(directions: &[u8]) -> Embeddings {
    let row = |&direction: &u8| {
        let mut row = [0.0; 4];
        row[usize::from(direction) % 4] = if direction < 4 { 1.0 } else { -1.0 };
        row
    };
    Embeddings::new(directions.iter().flat_map(row).collect(), 4).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn as_defined(
        queries in prop::collection::vec((0u8..8, 0u8..8, prop::collection::btree_set(0usize..7, 0..3)), 1..8),
        gallery in prop::collection::vec((0u8..8, 0u8..8), 7..12),
        top in 1usize..15,
    ) {
        let (queries_a, queries_b): (Vec<_>, Vec<_>) = queries.iter().map(|&(a, b, _)| (a, b)).unzip();
        let (gallery_a, gallery_b): (Vec<_>, Vec<_>) = gallery.iter().copied().unzip();
        let views = [(rows(&queries_a), rows(&gallery_a)), (rows(&queries_b), rows(&gallery_b))];
        let mut lists = PositiveLists::default();
        queries.iter().for_each(|(.., right)| lists.push(right.iter().copied()).unwrap());
        let judged = queries.iter().any(|(.., right)| !right.is_empty());
        let relevance = judged.then(|| Relevance::lists(lists));
        let sides = [0, 1].map(|side: usize| Contender { queries: &views[side].0, gallery: &views[side].1 });
        let found = compare(sides, relevance.as_ref(), top, Options::default()).unwrap();
        let score = |side: usize, query: usize, row: usize| {
            let (query, row) = (views[side].0.row(query), views[side].1.row(row));
            query.iter().zip(row).map(|(a, b)| a * b).sum::<f32>()
        };
        let (mut overlap, mut wins) = (0.0, [0, 0]);
        for (query, compared) in found.queries.iter().enumerate() {
            let right = &queries[query].2;
            let mut ranks = [None::<usize>; 2];
            for (side, rank) in ranks.iter_mut().enumerate() {
                let hits = &compared.sides[side].hits;
                prop_assert_eq!(hits.len(), top.min(gallery.len()));
                // What is not shown is no better than what is shown last.
                let last = hits.last().unwrap().score;
                let unseen = (0..gallery.len()).filter(|row| hits.iter().all(|hit| hit.row != *row));
                prop_assert!(unseen.into_iter().all(|row| score(side, query, row) <= last));
                *rank = right.iter().map(|&row| {
                    let own = score(side, query, row);
                    1 + (0..gallery.len()).filter(|other| !right.contains(other) && score(side, query, *other) >= own).count()
                }).min();
                prop_assert_eq!(compared.sides[side].rank.map(|rank| rank as usize), *rank);
            }
            let [a, b] = &compared.sides;
            let common = a.hits.iter().filter(|hit| b.hits.iter().any(|other| other.row == hit.row)).count();
            prop_assert_eq!(compared.common, common);
            overlap += common as f64 / top.min(gallery.len()) as f64;
            if let [Some(a), Some(b)] = ranks && a.min(b) <= top && a != b {
                wins[usize::from(b < a)] += 1;
                prop_assert_eq!(compared.winner(top), Some(if a < b { Winner::A } else { Winner::B }));
            }
        }
        prop_assert!((found.summary.overlap - 100.0 * overlap / queries.len() as f64).abs() < 1e-9);
        prop_assert_eq!(found.summary.judged.is_some(), judged);
        if let Some(judged) = &found.summary.judged {
            prop_assert_eq!([judged.wins_a, judged.wins_b], wins);
            prop_assert_eq!(judged.wins_a + judged.wins_b + judged.draws + judged.neither, judged.queries);
        }
    }
}
