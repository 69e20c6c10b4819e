//! `evaluate`: what is right, by which protocol, and in whose layout it is said.

use clipzoo::clip_core::serde_json::{Value, json};

use super::support::{Folder, SCHEMA, small_model, table, tensors};

/// Features of two numbers a row, at these degrees.
fn features(folder: &Folder, name: &str, texts: &[f32], images: &[f32]) {
    let at = |degrees: &[f32]| -> Vec<f32> {
        let unit = |degrees: &f32| [degrees.to_radians().cos(), degrees.to_radians().sin()];
        degrees.iter().flat_map(unit).collect()
    };
    folder.write(
        name,
        tensors(&[
            ("text_features", &[texts.len(), 2], &at(texts)),
            ("image_features", &[images.len(), 2], &at(images)),
        ]),
    );
}

const LINE: &str = "evaluate --text-features f.safetensors --image-features f.safetensors --threads 1 --json";

fn close(value: &Value, wanted: f64) {
    let number = value.as_f64().unwrap();
    assert!((number - wanted).abs() < 1e-3, "{number} instead of {wanted}");
}

/// Two pictures of shoes, two cups, one hat: text 0 points at the other shoe.
fn shop() -> Folder {
    let folder = Folder::new();
    features(
        &folder,
        "f.safetensors",
        &[0.0, 20.0, 100.0, 125.0, 200.0],
        &[22.0, 1.0, 101.0, 122.0, 205.0],
    );
    let header = "text\timage\titem\tkind";
    let rows = [
        "a shoe\tx\ts\twear",
        "a shoe\tx\ts\twear",
        "a cup\tx\tc\tkitchen",
        "cup\tx\tc\tkitchen",
        "hat\tx\t\twear",
    ];
    folder.write("t.tsv", format!("{header}\n{}\n", rows.join("\n")));
    folder
}

#[test]
fn what_belongs_together_is_said_by_items_or_by_texts() {
    let folder = shop();
    let got = |flags: &str| folder.run(&format!("{LINE} {flags}")).json()["text_to_image"].clone();
    let alone = got("");
    close(&alone["r@1"], 60.0);
    assert!(alone["map"].is_null());
    let items = got("--table t.tsv --header --item-column item");
    close(&items["r@1"], 100.0);
    // Each text finds its own product's pictures first, whichever comes before the other.
    close(&items["map"], 100.0);
    close(&items["ndcg"], 100.0);
    close(&items["precision@5"], 100.0 * (4.0 * 0.4 + 0.2) / 5.0);
    // The two shoes are described alike, the two cups are not.
    let texts = got("--table t.tsv --header --same-text");
    close(&texts["r@1"], 100.0);
    close(&texts["precision@5"], 100.0 * (2.0 * 0.4 + 3.0 * 0.2) / 5.0);
}

#[test]
fn products_are_ranked_by_their_best_picture() {
    let folder = shop();
    let got = folder
        .run(&format!("{LINE} --table t.tsv --header --group-by item"))
        .json();
    for direction in ["text_to_image", "image_to_text"] {
        let figures = &got[direction];
        // Five rows are queries, three products are ranked: the row without a product is one of its own.
        assert_eq!((&figures["queries"], &figures["gallery"]), (&json!(5), &json!(3)));
        assert_eq!(
            (&figures["group_by"], &figures["protocol"]),
            (&json!("item"), &json!("full"))
        );
        close(&figures["r@1"], 100.0);
        assert!(figures["map"].is_null());
    }
}

#[test]
fn a_sample_names_itself_and_says_where_it_was_short() {
    let folder = shop();
    let flags = "--table t.tsv --header --category-column kind";
    let run = |more: &str| folder.run(&format!("{LINE} {flags} {more}"));
    let said = run("--protocol sampled:2");
    let short = "for 2 of 5 queries their category has fewer than 2 others; they are ranked among all of them";
    assert!(
        said.stderr.contains(&format!("text to image: {short}")),
        "{}",
        said.stderr
    );
    let got = said.json();
    assert_eq!(got["protocol"], "sampled:2");
    for direction in ["text_to_image", "image_to_text"] {
        let figures = &got[direction];
        assert_eq!(
            (&figures["protocol"], &figures["short_queries"]),
            (&json!("sampled:2"), &json!(2))
        );
        assert_eq!((&figures["queries"], &figures["gallery"]), (&json!(5), &json!(3)));
    }
    // All of the category is drawn, so the seed decides nothing; with one other it does.
    assert_eq!(run("--protocol sampled:2 --seed 7").json(), got);
    let firsts = |seed: u32| run(&format!("--protocol sampled:1 --seed {seed}")).json()["text_to_image"]["r@1"].clone();
    assert_eq!(firsts(3), firsts(3));
    assert!((0..8).any(|seed| firsts(seed) != firsts(8)));

    let report = LINE.replace(" --json", "");
    let report = folder
        .run(&format!("{report} {flags} --protocol sampled:2 --seed 7"))
        .ok();
    assert!(
        report.contains("protocol sampled:2: a right row and 2 of its category, drawn by seed 7"),
        "{report}"
    );
    assert!(report.contains("recall in %, sampled:2"), "{report}");
}

/// Queries and pictures of their own, in the layouts of three projects.
#[test]
fn relevance_is_read_in_three_layouts() {
    let folder = Folder::new();
    features(&folder, "f.safetensors", &[0.0, 90.0], &[45.0, 2.0, 88.0, 180.0]);
    folder.write(
        "q.jsonl",
        "{\"id\": 8428, \"text\": \"托特包\"}\n{\"id\": \"54372\", \"text\": \"a cup\"}\n",
    );
    folder.write("i.tsv", "17\tx\n18\tx\n19\tx\n20\tx\n");
    let flags = "--table q.jsonl --gallery i.tsv --schema id:str:1,image:str:1 --id-column id --relevance r.jsonl";
    let layouts = [
        "{\"query\": \"8428\", \"items\": [\"17\", 18]}\n{\"query\": 54372, \"items\": [20]}\n",
        "{\"text_id\": 8428, \"text\": \"托特包\", \"image_ids\": [17, 18]}\n{\"text_id\": 54372, \"text\": \"\", \"image_ids\": [20]}\n",
        "{\"query_id\": 8428, \"query_text\": \"托特包\", \"item_ids\": [18, 17]}\n{\"query_id\": 54372, \"item_ids\": [\"20\"]}\n",
    ];
    for layout in layouts {
        folder.write("r.jsonl", layout);
        let got = folder.run(&format!("{LINE} {flags}")).json();
        let forth = &got["text_to_image"];
        assert_eq!((&forth["queries"], &forth["gallery"]), (&json!(2), &json!(4)));
        // The bag finds 18, 17; the cup finds 19, 17, 18 before 20.
        close(&forth["mean_rank"], 2.5);
        close(&forth["map"], 100.0 * f64::midpoint(1.0, 0.25));
        // Picture 19 is right for no text and is no query.
        assert_eq!(
            (&got["image_to_text"]["queries"], &got["image_to_text"]["gallery"]),
            (&json!(3), &json!(2))
        );
    }
    folder.write(
        "r.jsonl",
        "{\"query\": 8428, \"items\": [17, 18, 19], \"grades\": [1, 3, 0]}\n",
    );
    let forth = folder.run(&format!("{LINE} {flags}")).json()["text_to_image"].clone();
    close(&forth["ndcg"], 100.0);
    folder.write(
        "r.jsonl",
        "{\"query\": 8428, \"items\": [17, 18], \"grades\": [3, 1]}\n",
    );
    let forth = folder.run(&format!("{LINE} {flags}")).json()["text_to_image"].clone();
    let second = 1.0 / 3f64.log2();
    close(&forth["ndcg"], 100.0 * (1.0 + 3.0 * second) / (3.0 + second));
    close(&forth["map"], 100.0);

    folder.write(
        "r.jsonl",
        "{\"query\": 8428, \"items\": [17]}\n{\"query\": 8428, \"items\": [99]}\n",
    );
    let message = folder.run(&format!("{LINE} {flags}")).failed();
    assert_eq!(
        message,
        "r.jsonl, row 2, column `items`: no row has the id `99`; check the id; rows that have ids are named by these alone"
    );
    let message = folder.run(&format!("{LINE} --relevance r.jsonl")).failed();
    assert_eq!(
        message,
        "r.jsonl, row 1, column `query`: there is no row 8428 among 2; rows are counted from 0; name them by id where they have ids"
    );
}

#[test]
fn a_model_embeds_queries_and_pictures_of_two_tables() {
    let folder = Folder::new();
    small_model(&folder, "model");
    let pairs: Vec<(String, String)> = table(0..6)
        .lines()
        .map(|line| line.split_once('\t').unwrap())
        .map(|(text, picture)| (text.to_owned(), picture.to_owned()))
        .collect();
    let texts: String = pairs
        .iter()
        .enumerate()
        .map(|(row, (text, _))| format!("q{row}\t{text}\n"))
        .collect();
    // The pictures in another order, and one more.
    let order = [3, 1, 5, 0, 2, 4, 4];
    let pictures: String = order.iter().map(|&row| format!("q{row}\t{}\n", pairs[row].1)).collect();
    let right: String = (0..6)
        .map(|row| format!("{{\"query\": \"q{row}\", \"items\": [\"q{row}\"]}}\n"))
        .collect();
    folder.write("q.tsv", format!("id\ttext\n{texts}"));
    folder.write("i.tsv", format!("id\timage\n{pictures}"));
    folder.write("r.jsonl", right);
    folder.write("t.tsv", table(0..6));
    let both = "evaluate --model model --table q.tsv --gallery i.tsv --header --threads 1";
    let got = folder
        .run(&format!(
            "{both} --id-column id --relevance r.jsonl --json --page p.html"
        ))
        .json();
    let paired = folder
        .run(&format!(
            "evaluate --model model --table t.tsv {SCHEMA} --threads 1 --json"
        ))
        .json();
    assert_eq!(got["text_to_image"]["gallery"], 7);
    // The copy of picture 4 is right as picture 4 is, and wrong for the others as picture 4 is.
    assert_eq!(got["text_to_image"]["r@1"], paired["text_to_image"]["r@1"]);
    assert!(folder.text("p.html").contains("data:image/"));
    // The id is the product as well, so the same is said in another way.
    let items = folder.run(&format!("{both} --item-column id --json")).json();
    assert_eq!(items, got);
}

/// A refused row is neither query nor gallery, and shifts none of the numbers that a file names rows by.
#[test]
fn refused_rows_shift_no_relevance() {
    let folder = Folder::new();
    small_model(&folder, "model");
    let good = table(0..6);
    let lines: Vec<&str> = good.lines().collect();
    let broken = [&lines[..2], &["red shoe\tbm8gcGljdHVyZQ=="], &lines[2..]]
        .concat()
        .join("\n");
    folder.write("good.tsv", &good);
    folder.write("broken.tsv", broken);
    let right = |rows: &[usize]| -> String {
        rows.iter()
            .map(|row| format!("{{\"query\": {row}, \"items\": [{row}]}}\n"))
            .collect()
    };
    folder.write("good.jsonl", right(&[0, 1, 2, 3, 4, 5]));
    folder.write("broken.jsonl", right(&[0, 1, 2, 3, 4, 5, 6]));
    let run = |name: &str| {
        folder.run(&format!(
            "evaluate --model model --table {name}.tsv {SCHEMA} --relevance {name}.jsonl --bad-rows skip --threads 1 --json"
        ))
    };
    let said = run("broken");
    assert!(
        said.stderr
            .contains("broken.jsonl: 1 queries and 1 right pictures are rows that were left out"),
        "{}",
        said.stderr
    );
    assert_eq!(said.json(), run("good").json());
}

#[test]
fn flags_that_make_no_sense_together_are_wrong_usage() {
    let folder = shop();
    folder.write("r.jsonl", "");
    for (flags, message) in [
        (
            "--table t.tsv --item-column item --same-text",
            "--item-column and --same-text both say what is right; give one of them",
        ),
        (
            "--table t.tsv --item-column item --relevance r.jsonl",
            "--relevance and --item-column both say what is right; give one of them",
        ),
        (
            "--group-by item",
            "--group-by names a column of no table; give the --table that holds it",
        ),
        (
            "--same-text",
            "--same-text needs the texts; give the --table that holds them",
        ),
        (
            "--table t.tsv --protocol sampled:100",
            "--protocol sampled:100 draws from a category; name the column of the categories: --category-column",
        ),
        (
            "--table t.tsv --category-column kind",
            "--category-column is what sampled:N draws from; give --protocol sampled:100",
        ),
        (
            "--table t.tsv --category-column kind --protocol sampled:9 --group-by item",
            "--protocol sampled:9 draws rows and --group-by ranks groups; group in the full gallery",
        ),
        (
            "--table t.tsv --gallery t.tsv",
            "pictures of a --gallery are not row by row those of the texts; say which pictures are right for which text: \
             --relevance, or --item-column of both tables",
        ),
    ] {
        let flags = flags.replace("t.tsv", "t.tsv --header");
        // --header is said once, however many tables there are.
        let flags = flags.replacen(" --header", "", flags.matches(" --header").count().saturating_sub(1));
        assert_eq!(folder.run(&format!("{LINE} {flags}")).misused(), message);
    }
    let said = folder.run(&format!("{LINE} --protocol sampled")).refused();
    assert!(
        said.contains("there is no protocol `sampled`; use full or sampled:100"),
        "{said}"
    );
    let message = folder
        .run(&format!("{LINE} --table t.tsv --header --group-by colour"))
        .failed();
    assert!(message.contains("there is no column `colour`"), "{message}");
    folder.write("short.tsv", "text\timage\na\tx\n");
    let message = folder.run(&format!("{LINE} --table short.tsv --header")).failed();
    assert_eq!(
        message,
        "f.safetensors: 5 rows of features for 1 rows of short.tsv; name the table that the features were made of"
    );
}
