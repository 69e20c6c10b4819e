//! `predict` over many rows: ended and gone on with, in shares, cut and of other types.

use std::fs;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clipzoo::clip_core::serde_json::json;
use safetensors::{Dtype, SafeTensors};

use super::support::{Folder, SCHEMA, base64, floats, off, pair, small_model, table};

/// A table whose rows have ids, some of them refused.
fn set_up(rows: usize) -> Folder {
    let folder = Folder::new();
    small_model(&folder, "model");
    let row = |row: usize| match row % 50 {
        7 => format!("red\tnot a picture\tsku-{row}\n"),
        _ => format!("{}\t{}\tsku-{row}\n", pair(row).0, base64(&pair(row).1)),
    };
    folder.write("t.tsv", (0..rows).map(row).collect::<String>());
    folder
}

const LINE: &str = "predict --model model --table t.tsv --schema text:str:1,image:str:1,id:str:1 --id-column id \
                    --bad-rows skip --batch-size 2 --part-rows 32 --workers 2 --threads 1 --device cpu";

/// Rows of finished parts, by their files' names.
fn parts(folder: &Folder, name: &str) -> usize {
    if !folder.path(name).is_dir() {
        return 0;
    }
    let names = folder.names(name);
    32 * names
        .iter()
        .filter(|name| name.starts_with("rows-") && name.ends_with(".safetensors"))
        .count()
}

#[test]
fn killed_at_any_moment_nothing_is_lost_and_nothing_doubled() {
    let folder = set_up(1200);
    let start = Instant::now();
    folder.run(&format!("{LINE} --output whole.jsonl")).ok();
    let time = start.elapsed().as_millis() as u64;
    let (whole, rejects) = (folder.read("whole.jsonl"), folder.read("whole.jsonl.rejects.jsonl"));
    assert_eq!(rejects.iter().filter(|byte| **byte == b'\n').count(), 24);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed = std::env::var("CLIPZOO_SEED").map_or(now, |seed| seed.parse().unwrap());
    println!("CLIPZOO_SEED={seed}");
    let mut state = seed | 1;
    let line = format!("{LINE} --resume --output out.jsonl");
    let (mut kills, mut before, mut with_parts) = (0, 0, 0);
    while kills < 20 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let mut child = folder
            .command(&line)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // At any moment of a run, from its start to its end.
        sleep(Duration::from_millis(time / 10 + (state >> 33) % time));
        if let Some(ended) = child.try_wait().unwrap() {
            // It was faster than the clock: all over again.
            assert!(ended.success(), "seed {seed}");
            assert_eq!(folder.read("out.jsonl"), whole, "seed {seed}");
            fs::remove_file(folder.path("out.jsonl")).unwrap();
            before = 0;
            continue;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        // The output is whole or not there; what was finished stays so.
        assert!(
            !folder.path("out.jsonl").exists() || folder.read("out.jsonl") == whole,
            "seed {seed}"
        );
        let there = parts(&folder, "out.jsonl.parts");
        assert!(
            there >= before || folder.path("out.jsonl").exists(),
            "seed {seed}: {before}, then {there}"
        );
        with_parts += usize::from(there > 0);
        before = there;
    }
    println!("{with_parts} of 20 kills left finished parts of a run of {time} ms");
    assert!(with_parts > 0, "seed {seed}");
    let ended = folder.run(&line);
    assert!(
        ended.stderr.contains(" rows were finished before") || before == 0,
        "{}",
        ended.stderr
    );
    ended.ok();
    assert!(
        folder.read("out.jsonl") == whole,
        "seed {seed}: other bytes than those of a run that was not ended"
    );
    assert_eq!(folder.read("out.jsonl.rejects.jsonl"), rejects, "seed {seed}");
    // Nothing stays but the two outputs.
    let names = folder.names("");
    assert_eq!(
        names,
        [
            "model",
            "out.jsonl",
            "out.jsonl.rejects.jsonl",
            "t.tsv",
            "whole.jsonl",
            "whole.jsonl.rejects.jsonl"
        ]
    );
}

/// Runs until some parts are finished, and kills it then.
fn ended_early(folder: &Folder, line: &str, output: &str) -> usize {
    let mut child = folder
        .command(line)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let start = Instant::now();
    while parts(folder, &format!("{output}.parts")) < 64 {
        assert!(start.elapsed() < Duration::from_secs(60));
        assert!(
            child.try_wait().unwrap().is_none(),
            "it ended before it could be killed"
        );
        sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    parts(folder, &format!("{output}.parts"))
}

#[test]
fn a_run_goes_on_only_as_it_was_begun() {
    let folder = set_up(4000);
    let line = format!("{LINE} --output out.safetensors");
    let done = ended_early(&folder, &line, "out.safetensors");
    assert_eq!(
        folder.run(&line).failed(),
        format!(
            "out.safetensors.parts: {done} rows of an earlier run are finished and kept here; go on with --resume, \
             or remove the folder to start anew"
        )
    );
    let other = folder
        .run(&format!("{line} --resume --dims 4 --append-cols text"))
        .failed();
    assert!(
        other.contains("the rows kept here were made otherwise: --append-cols was id, and is id,text; --dims was not given, and is 4; run it as before"),
        "{other}"
    );
    // Where bad rows are no longer skipped, those that were left empty are spoken of.
    let stop = line.replace("--bad-rows skip", "--bad-rows stop");
    let message = folder.run(&format!("{stop} --resume")).failed();
    assert!(
        message.contains("of the finished rows were refused and left empty"),
        "{message}"
    );
    // Another table of the same name.
    let rows = folder.read("t.tsv");
    folder.write("t.tsv", &rows);
    let message = folder.run(&format!("{line} --resume")).failed();
    assert!(
        message.contains("made otherwise: --table is not what it was; run it as before"),
        "{message}"
    );
    assert_eq!(parts(&folder, "out.safetensors.parts"), done, "nothing is lost by that");
    fs::remove_dir_all(folder.path("out.safetensors.parts")).unwrap();
    folder.run(&line).ok();
    assert_eq!(floats(&folder.read("out.safetensors"), "text_features").0, [4000, 8]);
    assert_eq!(
        folder.lines("out.safetensors.columns.jsonl")[3999],
        json!({ "id": "sku-3999" })
    );
    assert!(!folder.path("out.safetensors.parts").exists());
}

#[test]
fn a_bad_row_late_in_a_run_costs_only_what_is_behind_it() {
    let folder = set_up(1);
    let rows: String = (0..600)
        .map(|row| format!("{}\tsku\n", table(row..row + 1).trim_end()))
        .collect();
    folder.write("t.tsv", format!("{rows}red\t####\tsku\n{rows}"));
    let line = LINE.replace(" --bad-rows skip", "");
    let ended = folder.run(&format!("{line} --output out.jsonl"));
    assert!(
        ended
            .stderr
            .contains("finished rows are kept in out.jsonl.parts: --resume goes on"),
        "{}",
        ended.stderr
    );
    assert!(ended.failed().starts_with("t.tsv, row 601, column `image`: "));
    let ended = folder.run(&format!("{line} --output out.jsonl --resume --bad-rows skip"));
    assert!(
        ended.stderr.contains("rows were finished before and are taken over"),
        "{}",
        ended.stderr
    );
    ended.ok();
    let lines = folder.lines("out.jsonl");
    assert_eq!(lines.len(), 1201);
    let empty: Vec<usize> = (0..1201)
        .filter(|&row| lines[row]["image_features"].is_null())
        .collect();
    assert_eq!(empty, [600]);
    assert_eq!(lines[600]["id"], json!("sku"));
}

#[test]
fn shards_one_behind_the_other_are_the_whole() {
    let folder = set_up(100);
    let line = format!("{LINE} --append-cols text");
    folder.run(&format!("{line} --output whole.jsonl")).ok();
    let mut joined = Vec::new();
    for shard in 1..=3 {
        folder
            .run(&format!("{line} --shard {shard}/3 --output {shard}.jsonl"))
            .ok();
        joined.extend(folder.lines(&format!("{shard}.jsonl")));
    }
    let whole = folder.lines("whole.jsonl");
    assert_eq!(joined.len(), whole.len());
    for (one, other) in joined.iter().zip(&whole) {
        assert_eq!((&one["id"], &one["text"]), (&other["id"], &other["text"]));
        for side in ["text_features", "image_features"] {
            let values = |line: &clipzoo::clip_core::serde_json::Value| {
                let values = line[side].as_array().cloned().unwrap_or_default();
                values.iter().map(|x| x.as_f64().unwrap() as f32).collect::<Vec<_>>()
            };
            assert!(off(&values(one), &values(other)) < 1e-6);
        }
    }
    // Refused rows are named by their place in the file.
    assert_eq!(folder.lines("2.jsonl.rejects.jsonl")[0]["row"], json!(58));
    let texts: String = (0..5).map(|row| pair(row).0 + "\n").collect();
    folder.write("t.txt", texts);
    let two = "predict --model model --texts t.txt --table t.tsv --output o.safetensors --shard 1/2";
    assert!(
        folder
            .run(two)
            .misused()
            .contains("texts or pictures come from two sources")
    );
    let none = "predict --model model --texts t.txt --output o.npy --shard 1/9";
    assert!(folder.run(none).misused().contains("there are none in this shard"));
    assert!(
        folder
            .run("predict --model model --texts t.txt --output o.npy --shard 0/2")
            .refused()
            .contains("i from 1 to n")
    );
}

#[test]
fn rows_are_cut_raw_and_of_two_bytes() {
    let folder = Folder::new();
    small_model(&folder, "model");
    folder.write("t.tsv", table(0..9));
    let line = format!("predict --model model --table t.tsv {SCHEMA}");
    folder.run(&format!("{line} --output unit.safetensors")).ok();
    folder
        .run(&format!("{line} --output raw.safetensors --normalize false"))
        .ok();
    folder.run(&format!("{line} --output cut.safetensors --dims 3")).ok();
    folder
        .run(&format!(
            "{line} --output rawcut.safetensors --dims 3 --normalize false"
        ))
        .ok();
    let unit = |row: &[f32]| {
        let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
        row.iter().map(|x| x / norm).collect::<Vec<_>>()
    };
    for side in ["text_features", "image_features"] {
        let read = |name: &str| floats(&folder.read(name), side);
        let (_, whole) = read("unit.safetensors");
        let (_, raw) = read("raw.safetensors");
        let again: Vec<f32> = raw.chunks(8).flat_map(unit).collect();
        assert!(off(&again, &whole) < 1e-6 && off(&raw, &whole) > 1e-3, "{side}");
        let (shape, cut) = read("cut.safetensors");
        assert_eq!(shape, [9, 3]);
        let wanted: Vec<f32> = whole.chunks(8).flat_map(|row| unit(&row[..3])).collect();
        assert!(off(&cut, &wanted) < 1e-6, "{side}");
        let wanted: Vec<f32> = raw.chunks(8).flat_map(|row| row[..3].to_vec()).collect();
        assert!(off(&read("rawcut.safetensors").1, &wanted) < 1e-6, "{side}");
    }
    assert_eq!(
        folder.run(&format!("{line} --output cut.npy --dims 9")).misused(),
        "--dims 9: the model's features have 8 dimensions; use 1 to 8"
    );

    folder
        .run(&format!("{line} --output half.safetensors --output-dtype f16"))
        .ok();
    let half = folder.read("half.safetensors");
    let half = SafeTensors::deserialize(&half).unwrap();
    let view = half.tensor("text_features").unwrap();
    assert_eq!((view.dtype(), view.shape()), (Dtype::F16, &[9, 8][..]));
    // What evaluate reads of them is what it reads of the others, as far as two bytes go.
    let said = folder
        .run("evaluate --text-features half.safetensors --image-features half.safetensors --json")
        .json();
    let wanted = folder
        .run("evaluate --text-features unit.safetensors --image-features unit.safetensors --json")
        .json();
    assert_eq!(said["text_to_image"]["queries"], wanted["text_to_image"]["queries"]);
    folder.write("t.txt", "red shoe\n");
    folder
        .run("predict --model model --texts t.txt --output half.npy --output-dtype f16")
        .ok();
    let npy = folder.read("half.npy");
    assert!(String::from_utf8_lossy(&npy[..128]).contains("'<f2'") && npy.len() == 128 + 16);
    folder
        .run("predict --model model --texts t.txt --output half.parquet --output-dtype f16")
        .ok();
    assert_eq!(
        folder
            .run("predict --model model --texts t.txt --output half.jsonl --output-dtype f16")
            .failed(),
        "half.jsonl: numbers written as text have no type: they are the shortest that read back as f32; \
         write .safetensors, .npy or .parquet"
    );
}

#[test]
fn rows_may_lack_a_part() {
    let folder = Folder::new();
    small_model(&folder, "model");
    folder.write("whole.tsv", table(0..4));
    folder
        .run(&format!(
            "predict --model model --table whole.tsv {SCHEMA} --output whole.safetensors"
        ))
        .ok();
    let picture = |row: usize| base64(&pair(row).1);
    folder.write(
        "t.tsv",
        format!(
            "{}\t{}\n \t{}\n{}\t\n\t\n",
            pair(0).0,
            picture(0),
            picture(1),
            pair(2).0
        ),
    );
    let rows = [
        json!({ "image": picture(0), "text": pair(0).0 }),
        json!({ "image": picture(1) }),
        json!({ "text": [pair(2).0], "image": null }),
        json!({ "text": [] }),
    ];
    folder.write("t.jsonl", rows.map(|row| row.to_string() + "\n").concat());
    let whole = folder.read("whole.safetensors");
    for (table, flags) in [("t.tsv", SCHEMA), ("t.jsonl", "")] {
        let line = format!("predict --model model --table {table} {flags} --output");
        folder.run(&format!("{line} strict.npy")).failed();
        folder.run(&format!("{line} out.safetensors --partial")).ok();
        let got = folder.read("out.safetensors");
        for (side, there) in [("text_features", [0, 2]), ("image_features", [0, 1])] {
            let ((_, whole), (shape, got)) = (floats(&whole, side), floats(&got, side));
            assert_eq!(shape, [4, 8]);
            for row in 0..4 {
                let (whole, got) = (&whole[row * 8..][..8], &got[row * 8..][..8]);
                if there.contains(&row) {
                    assert!(off(whole, got) < 1e-6, "{side} {row}");
                } else {
                    assert!(got.iter().all(|x| *x == 0.0), "{side} {row}");
                }
            }
        }
    }
}
