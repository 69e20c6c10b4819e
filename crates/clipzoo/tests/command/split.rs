//! `split`: no product on two sides, and every row as it was.

use std::collections::HashSet;

use clipzoo::clip_core::serde_json::json;

use super::support::Folder;

/// Rows of 60 products, with cells that only a byte for byte copy keeps.
fn csv() -> String {
    let rows = (0..200).map(|row| format!("\"line {row}\nnext, \"\"quoted\"\"\",p{},x \r\n", row * 7 % 60));
    "text,item,image\r\n".to_owned() + &rows.collect::<String>()
}

#[test]
fn no_product_is_on_two_sides_and_rows_are_copied_byte_for_byte() {
    let folder = Folder::new();
    let whole = csv();
    folder.write("shop/t.csv", &whole);
    let said = folder
        .run("split --table shop/t.csv --valid 10% --test 30 --seed 3 --json")
        .json();
    assert_eq!(
        folder.names("shop"),
        ["t.csv", "t.test.csv", "t.train.csv", "t.valid.csv"]
    );
    let mut seen: HashSet<String> = HashSet::new();
    let mut all: Vec<String> = Vec::new();
    let mut rows = 0;
    for side in ["train", "valid", "test"] {
        let text = folder.text(&format!("shop/t.{side}.csv"));
        let body = text.strip_prefix("text,item,image\r\n").unwrap();
        let records: Vec<&str> = body.split_inclusive("x \r\n").collect();
        let items: HashSet<String> = records
            .iter()
            .map(|row| row.rsplit(',').nth(1).unwrap().to_owned())
            .collect();
        assert!(seen.is_disjoint(&items), "{side}");
        assert_eq!(said[side]["rows"], json!(records.len()));
        assert_eq!(said[side]["items"], json!(items.len()));
        assert_eq!(said[side]["percent"], json!(100.0 * records.len() as f64 / 200.0));
        rows += records.len();
        // In the order of the table.
        let places: Vec<usize> = records.iter().map(|row| whole.find(row).unwrap()).collect();
        assert!(places.is_sorted());
        all.extend(records.iter().map(|&row| row.to_owned()));
        seen.extend(items);
    }
    assert_eq!((rows, seen.len()), (200, 60));
    all.sort();
    let mut wanted: Vec<&str> = whole["text,item,image\r\n".len()..].split_inclusive("x \r\n").collect();
    wanted.sort_unstable();
    assert_eq!(all, wanted);
    for (side, about) in [("valid", 20i64), ("test", 30)] {
        assert!((said[side]["rows"].as_i64().unwrap() - about).abs() <= 2, "{said}");
    }
    // The same seed splits the same way, another seed otherwise.
    let valid = folder.read("shop/t.valid.csv");
    folder
        .run("split --table shop/t.csv --valid 10% --test 30 --seed 3")
        .ok();
    assert_eq!(folder.read("shop/t.valid.csv"), valid);
    folder.run("split --table shop/t.csv --valid 10% --seed 4").ok();
    assert_ne!(folder.read("shop/t.valid.csv"), valid);
}

#[test]
fn other_formats_and_rows_without_a_product() {
    let folder = Folder::new();
    let rows: String = (0..40)
        .map(|row| format!("text {row}\t{}\n", if row % 2 == 0 { "one" } else { "" }))
        .collect();
    folder.write("t.tsv", rows.trim_end_matches('\n'));
    folder
        .run("split --table t.tsv --schema text:str:1,sku:str:1 --by sku --valid 25%")
        .ok();
    let (train, valid) = (folder.text("t.train.tsv"), folder.text("t.valid.tsv"));
    assert_eq!((train.lines().count(), valid.lines().count()), (30, 10));
    assert!(!valid.contains("one") && train.ends_with('\n') && valid.ends_with('\n'));
    let rows: String = (0..20)
        .map(|row| format!("{{\"item\":  {}, \"text\": \"\\u7ea2\"}}\n", row / 2))
        .collect();
    folder.write("t.jsonl", &rows);
    folder.run("split --table t.jsonl --valid 4 --output .").ok();
    let valid = folder.text("t.valid.jsonl");
    assert_eq!(valid.lines().count(), 4);
    assert!(valid.lines().all(|line| rows.contains(line)));
}

#[test]
fn what_cannot_be_split_is_said() {
    let folder = Folder::new();
    folder.write("t.tsv", "text\timage\titem\na\tb\tc\nd\te\tc\n");
    let said = folder.run("split --table t.tsv --valid 50%").failed();
    assert!(said.contains("no column `item`") && said.contains("--header"), "{said}");
    assert_eq!(
        folder.run("split --table t.tsv --header --valid 50%").failed(),
        "t.tsv: a share of about 1 of 2 rows cannot be filled: the smallest group has 2 rows; ask for a larger share, \
         or split by a column of more values"
    );
    assert!(
        folder
            .run("split --table t.tsv --header")
            .misused()
            .contains("nothing to split off")
    );
    assert!(
        folder
            .run("split --table t.tsv --header --valid 0.05")
            .refused()
            .contains("a share like 5%")
    );
    assert!(
        folder
            .run("split --table . --valid 5%")
            .misused()
            .contains("a folder of pictures has no rows")
    );
    assert_eq!(folder.names(""), ["t.tsv"]);
}
