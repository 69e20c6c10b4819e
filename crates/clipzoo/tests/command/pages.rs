//! The pages of `classify` and `compare` in a real browser: from a phone's width up, light and dark, without the network.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use clipzoo::clip_core::serde_json::json;

use super::chromium::{Chromium, Seen};
use super::compare::two_models;
use super::support::{Folder, SCHEMA, base64, pair};

/// The mean of all values of a picture, 0 (black) to 255, and how many different ones there are.
fn light(path: &Path) -> (f64, usize) {
    let mut reader = png::Decoder::new(BufReader::new(File::open(path).unwrap()))
        .read_info()
        .unwrap();
    let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
    let size = reader.next_frame(&mut bytes).unwrap().buffer_size();
    let bytes = &bytes[..size];
    let mut seen = [false; 256];
    bytes.iter().for_each(|&byte| seen[usize::from(byte)] = true);
    let mean = bytes.iter().map(|&byte| f64::from(byte)).sum::<f64>() / size as f64;
    (mean, seen.iter().filter(|seen| **seen).count())
}

/// Looks at a page as phones, tablets and desks do, by day and by night.
fn looks_well(page: &Path, pictures: usize) {
    let mut browser = Chromium::start();
    for width in [360, 800, 1400] {
        let shades = ["light", "dark"].map(|scheme| {
            let Seen {
                requests,
                complaints,
                measures,
                screenshot,
            } = browser.look(page, width, scheme);
            let place = format!("{} at {width}, {scheme}: {measures}", page.display());
            assert!(requests.is_empty(), "{place}: {requests:?}");
            assert!(complaints.is_empty(), "{place}: {complaints:?}");
            assert!(measures["across"].as_u64().unwrap() <= u64::from(width), "{place}");
            assert_eq!(measures["screen"], json!(width), "{place}");
            assert_eq!(measures["out"], json!([]), "{place}");
            assert_eq!(
                (&measures["images"], &measures["broken"]),
                (&json!(pictures), &json!(0)),
                "{place}"
            );
            let (mean, shades) = light(&screenshot);
            assert!(shades > 32, "{place}: a picture of {shades} shades");
            mean
        });
        assert!(shades[0] > 200.0 && shades[1] < 110.0, "{width}: {shades:?}");
    }
}

/// What the checks are worth: a page that is wrong in every way.
#[test]
#[ignore = "needs Chromium (Debian: apt-get install chromium)"]
fn a_bad_page_is_seen_to_be_bad() {
    let folder = Folder::new();
    folder.write(
        "bad.html",
        "<!doctype html><main><div class=wide style='width:900px'>wide</div><img src='http://127.0.0.1:9/x.png'>\
         <script>console.error('help')</script></main>",
    );
    let seen = Chromium::start().look(&folder.path("bad.html"), 360, "light");
    assert!(seen.measures["across"].as_u64().unwrap() > 360, "{}", seen.measures);
    assert_eq!(
        (&seen.measures["out"], &seen.measures["broken"]),
        (&json!(["wide"]), &json!(1))
    );
    assert_eq!(seen.requests, ["http://127.0.0.1:9/x.png"]);
    assert!(
        seen.complaints.iter().any(|said| said.contains("help")),
        "{:?}",
        seen.complaints
    );
}

#[test]
#[ignore = "needs Chromium (Debian: apt-get install chromium)"]
fn a_comparison_looks_well() {
    let folder = Folder::new();
    two_models(&folder);
    let long = "a-title-that-nobody-parted-into-words-because-it-is-the-number-of-a-part-0123456789-0123456789";
    let rows: String = (0..30)
        .map(|row| {
            let (text, picture) = pair(row);
            let text = if row == 3 { long } else { &text };
            format!("{text}\t{}\n", base64(&picture))
        })
        .collect();
    folder.write("g.tsv", rows);
    for language in ["en", "zh"] {
        let line = format!(
            "compare --model a --model run/best --table g.tsv {SCHEMA} --threads 1 --top 6 --show 30 --language {language} \
             --output compare-{language}.html --name runs/of/the/spring/season/first/best --name runs/of/the/spring/season/second/best"
        );
        folder.run(&line).ok();
        looks_well(&folder.path(&format!("compare-{language}.html")), 30 * 2 * 6);
    }
}

#[test]
#[ignore = "needs Chromium (Debian: apt-get install chromium)"]
fn a_confusion_looks_well() {
    let folder = Folder::new();
    two_models(&folder);
    let names: Vec<String> = (0..40).map(|number| format!("label {number} of many")).collect();
    folder.write("labels.txt", names.join("\n"));
    let row = |row: usize| {
        let (text, picture) = pair(row);
        format!("{text}\t{}\t{}\n", base64(&picture), names[row % 40])
    };
    folder.write(
        "t.tsv",
        format!("text\timage\tlabel\n{}", (0..120).map(row).collect::<String>()),
    );
    let line = "classify --model run/best --labels labels.txt --table t.tsv --header --label-column label --threads 1 --page confusion.html";
    folder.run(line).ok();
    let page = folder.text("confusion.html");
    looks_well(&folder.path("confusion.html"), page.matches("<img ").count());
}
