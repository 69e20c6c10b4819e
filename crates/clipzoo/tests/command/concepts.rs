//! `concepts`: the list, its bounds, and what training reads of it.

use clipzoo::clip_core::serde_json::json;

use super::support::Folder;

const TITLES: &str = "Leather handbag for women\nNew leather handbags, 30cm\nCanvas tote bag\ncanvas tote bag\nwool hat\n\
    男士运动鞋 包邮\n透气男士运动鞋\n";

#[test]
fn a_list_for_a_person_to_edit() {
    let folder = Folder::new();
    folder.write("t.tsv", TITLES);
    let line = "concepts --table t.tsv --schema text:str:1 --output p.tsv --min-count 2";
    let said = folder.run(&format!("{line} --json")).json();
    let list = folder.text("p.tsv");
    let rows: Vec<Vec<&str>> = list
        .lines()
        .filter(|row| !row.starts_with('#'))
        .map(|row| row.split('\t').collect())
        .collect();
    assert_eq!(
        said,
        json!({ "output": "p.tsv", "titles": 7, "refused": 0, "phrases": rows.len(), "lost": 0 })
    );
    let row = |phrase: &str| {
        rows.iter()
            .find(|row| row[0] == phrase)
            .unwrap_or_else(|| panic!("{phrase}: {list}"))
    };
    assert_eq!(row("canvas tote bag")[1], "2");
    assert_eq!(row("leather handbag")[3], "Leather handbag for women");
    assert_eq!(row("男士运动鞋")[1], "2");
    assert!(rows.iter().all(|row| row.len() == 4 && row[2].parse::<f64>().is_ok()));
    assert!(list.starts_with("# Phrases that may be concepts, proposed from 7 titles of t.tsv"));

    // What is written can be read as a list of phrases.
    let phrases = clip_data_phrases(&folder);
    assert_eq!(phrases, rows.iter().map(|row| row[0].to_owned()).collect::<Vec<_>>());

    folder.run(&format!("{line} --top 1 --language zh")).ok();
    let list = folder.text("p.tsv");
    assert_eq!(list.lines().filter(|row| !row.starts_with('#')).count(), 1);
    assert!(list.contains("男士运动鞋"), "{list}");
}

fn clip_data_phrases(folder: &Folder) -> Vec<String> {
    let list = clip_data::PhraseConcepts::read(folder.path("p.tsv")).unwrap();
    list.all().iter().map(|concept| concept.name.to_string()).collect()
}

#[test]
fn nothing_is_left_behind_where_it_fails() {
    let folder = Folder::new();
    folder.write("t.tsv", TITLES);
    let line = "concepts --table t.tsv --schema text:str:1 --output p.tsv";
    let message = folder.run(&format!("{line} --min-count 50")).failed();
    assert_eq!(
        message,
        "t.tsv: no phrase comes in 50 of 7 titles; lower --min-count, or name the titles with --text-column"
    );
    folder.run(&format!("{line} --min-count 0")).refused();
    folder.write("bad.tsv", b"wool hat\nwool hat\n\xff\nwool hat\n");
    let line = "concepts --table bad.tsv --schema text:str:1 --output p.tsv";
    assert!(folder.run(line).failed().contains("row 3"));
    assert_eq!(folder.names(""), ["bad.tsv", "t.tsv"]);
    let said = folder.run(&format!("{line} --bad-rows skip --json")).json();
    assert_eq!((&said["refused"], &said["titles"]), (&json!(1), &json!(3)));
    assert_eq!(folder.lines("p.tsv.rejects.jsonl")[0]["row"], 3);
}
