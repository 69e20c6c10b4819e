//! Input that nobody should have given: one readable message, its place, a remedy, and nothing left behind.

use std::process::Command;

use super::support::{Ended, Folder, SCHEMA, base64, fixtures, pair, png, program, small_model, table};

/// A folder with the small model, and a table of good rows with one line in between.
fn with_row(row: impl AsRef<[u8]>) -> Folder {
    let folder = Folder::new();
    small_model(&folder, "model");
    let mut bytes = table(0..2).into_bytes();
    bytes.extend_from_slice(row.as_ref());
    bytes.push(b'\n');
    bytes.extend_from_slice(table(2..4).as_bytes());
    folder.write("t.tsv", bytes);
    folder
}

/// What `predict` says of the table; the folder of its output stays empty.
fn predicted(folder: &Folder) -> String {
    std::fs::create_dir_all(folder.path("out")).unwrap();
    let line = format!("predict --model model --table t.tsv {SCHEMA} --batch-size 1 --output out/f.safetensors");
    let message = folder.run(&line).failed();
    assert_eq!(folder.names("out"), [""; 0]);
    message
}

/// What is said of a row with these bytes as its picture.
fn of_picture(bytes: &[u8]) -> String {
    predicted(&with_row(format!("red shoe 0 0\t{}", base64(bytes))))
}

#[test]
fn a_truncated_base64_cell() {
    let cell = base64(&pair(3).1);
    // One letter over a whole number of bytes can be no base64.
    let cut = &cell[..cell.len() / 8 * 4 + 1];
    let message = predicted(&with_row(format!("red shoe 0 0\t{cut}")));
    assert_eq!(
        message,
        "t.tsv, row 3, column `image`: the base64 is truncated: 69 letters make no whole bytes; export \
         the row again"
    );
}

#[test]
fn an_empty_picture() {
    let folder = with_row("red shoe 0 0\t");
    assert_eq!(
        predicted(&folder),
        "t.tsv, row 3, column `image`: the image cell is empty"
    );
    // As a file beside the table.
    let folder = with_row("red shoe 0 0\tempty.png");
    folder.write("empty.png", b"");
    assert_eq!(
        predicted(&folder),
        "t.tsv, row 3, column `image`: `./empty.png`: the picture is empty (0 bytes); get the picture \
         again, or leave the row out"
    );
}

#[test]
fn a_picture_that_says_it_is_huge() {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 50_000, 50_000);
    encoder.set_color(png::ColorType::Rgb);
    drop(encoder.write_header().unwrap());
    assert_eq!(
        of_picture(&bytes),
        "t.tsv, row 3, column `image`: a picture of 50000 x 50000 pixels is over the limit of 178956970 \
         pixels (and 1048576 a side); make it smaller, or raise `Limits::max_pixels` in your own program"
    );
}

#[test]
fn a_truncated_picture() {
    let jpeg = std::fs::read(fixtures().join("preprocess/images/rgb_photo.jpg")).unwrap();
    assert_eq!(
        of_picture(&jpeg[..jpeg.len() / 2]),
        "t.tsv, row 3, column `image`: the JPEG picture is truncated: the file ends before the picture \
         does; get the picture again, or leave the row out"
    );
    let png = png(64, [1, 2, 3]);
    assert_eq!(
        of_picture(&png[..png.len() / 2]),
        "t.tsv, row 3, column `image`: the PNG picture is truncated: the file ends before the picture \
         does; get the picture again, or leave the row out"
    );
}

#[test]
fn a_cell_that_is_no_picture() {
    assert_eq!(
        of_picture(b"%PDF-1.7 and so on"),
        "t.tsv, row 3, column `image`: this is no JPEG, PNG, WebP, GIF or BMP picture (it looks like \
         PDF); convert it to one of these formats, or leave the row out"
    );
    let folder = with_row("red shoe 0 0\tgone.jpg");
    assert_eq!(
        predicted(&folder),
        "t.tsv, row 3, column `image`: `./gone.jpg`: cannot read the picture: No such file or directory \
         (os error 2); check the path"
    );
}

#[test]
fn a_row_with_too_few_columns() {
    assert_eq!(
        predicted(&with_row("red shoe 0 0")),
        "t.tsv, row 3, column `image`: the row has 1 cell and needs 2; check the row, or name the \
         columns there are with --schema"
    );
}

#[test]
fn a_text_that_is_not_utf8() {
    let mut row = b"red \xff\xfe shoe\t".to_vec();
    row.extend_from_slice(base64(&pair(3).1).as_bytes());
    assert_eq!(
        predicted(&with_row(row)),
        "t.tsv, row 3, column `text`: the cell is not UTF-8 from its byte 5 on; save the file as UTF-8"
    );
}

#[test]
fn an_empty_file() {
    let folder = with_row("");
    folder.write("t.tsv", "");
    assert_eq!(predicted(&folder), "t.tsv: the table is empty; check the path");
    folder.write("t.txt", "");
    let message = folder
        .run("predict --model model --texts t.txt --output f.npy")
        .failed();
    assert_eq!(message, "t.txt: the file is empty; check the path");
    assert_eq!(folder.names(""), ["model", "out", "t.tsv", "t.txt"]);
}

#[test]
fn a_file_that_is_not_there() {
    let folder = Folder::new();
    small_model(&folder, "model");
    let message = folder
        .run("predict --model model --table gone.tsv --output f.npy")
        .failed();
    assert_eq!(
        message,
        "gone.tsv: cannot read: No such file or directory (os error 2); check the path"
    );
    folder.write("t.txt", "red shoe\n");
    let message = folder.run("predict --model gone --texts t.txt --output f.npy").failed();
    assert_eq!(
        message,
        "gone: cannot open the model: No such file or directory (os error 2); check the path"
    );
}

#[test]
fn a_column_that_is_not_there() {
    let folder = with_row("");
    let message = folder
        .run("train --model model --train t.tsv --schema text:str:1,picture:str:1 --output run")
        .failed();
    assert_eq!(
        message,
        "t.tsv: there is no column `image`; there are: text, picture; name the one to use with \
         --image-column"
    );
}

#[test]
fn a_weights_file_that_was_cut_short() {
    let folder = with_row(table(3..4).trim_end());
    let weights = folder.read("model/model.safetensors");
    for length in [0, 4, 100, weights.len() / 2, weights.len() - 1] {
        folder.write("model/model.safetensors", &weights[..length]);
        let message = predicted(&folder);
        assert!(message.starts_with("model/model.safetensors: "), "{length}: {message}");
        assert!(message.contains("; "), "{length}: {message}");
    }
    assert_eq!(
        predicted(&folder),
        "model/model.safetensors: the file of weights is cut short: 38787 bytes of 38788; copy or \
         download it again"
    );
}

#[test]
fn a_config_with_a_backbone_nobody_knows() {
    let folder = with_row(table(3..4).trim_end());
    let config = folder.text("model/config.json");
    folder.write(
        "model/config.json",
        config.replace("\"clip_vision_model\"", "\"resnet_9000\""),
    );
    assert_eq!(
        predicted(&folder),
        "model: unknown image backbone `resnet_9000`; known: clip_vision_model, efficientnet_lite0, modified_resnet, \
         siglip_vision_model, vit"
    );
    folder.write("model/config.json", config.replace("\"clipzoo\"", "\"no_such_family\""));
    let message = predicted(&folder);
    assert!(
        message.starts_with(
            "model/config.json: `model_type` \"no_such_family\" in config.json is of no known family; known: "
        ),
        "{message}"
    );
    assert!(message.contains("open_clip (a config with `model_cfg`"), "{message}");
    folder.write("model/config.json", &config[..config.len() / 2]);
    assert_eq!(
        predicted(&folder),
        "model/config.json: is not JSON: EOF while parsing a string at line 13 column 8"
    );
}

#[test]
fn a_vocabulary_that_does_not_fit_the_weights() {
    let folder = Folder::new();
    folder.fixture("models/oc_vit_tiny", "model");
    folder.write("t.txt", "red shoe\n");
    let message = folder
        .run("predict --model model --texts t.txt --output f.npy")
        .failed();
    assert_eq!(
        message,
        "model: the model brings no vocabulary, and the bundled one does not fit the weights: 49408 tokens, 400 embeddings; put \
         the model's own into its folder: vocab.txt or merges.txt or tokenizer.json or bpe_simple_vocab_16e6.txt.gz"
    );
    // Pictures need no vocabulary.
    folder.write("p.png", png(20, [1, 2, 3]));
    folder.run("predict --model model --images p.png --output f.npy").ok();
}

/// Runs the command where no file may have more than 8 KiB. This stands in for a full disk: writing fails at the same
/// place. The signal that comes with it is ignored, so that it is an error.
fn limited(folder: &Folder, line: &str) -> Ended {
    // Blocks of 512 bytes in every shell that follows POSIX.
    let shell = format!("trap '' XFSZ; ulimit -f 16; exec {} {line}", program());
    let mut command = Command::new("sh");
    let output = command.args(["-c", &shell]).current_dir(folder.path("")).output();
    Ended::of(line, output.unwrap())
}

/// A run of one part, which writes nothing but its output.
const ONE_PART: &str = "predict --model model --texts t.txt --part-rows 5000";

#[test]
fn a_disk_that_is_full() {
    let folder = with_row(table(3..4).trim_end());
    folder.write("t.txt", "red shoe 0 0\n".repeat(2000));
    std::fs::create_dir_all(folder.path("out")).unwrap();
    for (command, output) in [
        (ONE_PART, "out/f.safetensors"),
        (ONE_PART, "out/f.npy"),
        (ONE_PART, "out/f.jsonl"),
        (ONE_PART, "out/f.tsv"),
        (ONE_PART, "out/f.parquet"),
        ("tokenize --model model --texts t.txt", "out/ids.jsonl"),
    ] {
        let line = format!("{command} --output {output}");
        let message = limited(&folder, &line).failed();
        let wanted =
            format!("{output}: cannot write: File too large (os error 27); free some space, or name another place");
        assert_eq!(message, wanted);
        assert_eq!(folder.names("out"), [""; 0], "{line}");
    }
    // Of more parts, the one that did not fit is named, whose bytes are written first; no half of one is left.
    let message = limited(&folder, "predict --model model --texts t.txt --output out/f.npy").failed();
    assert!(
        message.starts_with("out/f.npy.parts/texts-000000000000") && message.contains("cannot write: File too large"),
        "{message}"
    );
    assert_eq!(folder.names("out"), [""; 0]);
}

#[test]
fn a_disk_that_fills_up_while_training() {
    let folder = with_row(table(3..4).trim_end());
    let train =
        format!("train --model model --train t.tsv {SCHEMA} --output run --epochs 2 --batch-size 5 --device cpu");
    let message = limited(&folder, &train).failed();
    assert!(
        message.starts_with("run/") && message.contains("File too large"),
        "{message}"
    );
    assert!(
        message.ends_with("; free some space, or name another place"),
        "{message}"
    );
    for model in ["run/best", "run/last"] {
        assert!(!folder.path(model).exists(), "{model}");
    }
    // With space again, the run that broke off is not in the way.
    let said = folder.run(&format!("{train} --resume --json")).json();
    assert_eq!(said["step"], 2);
    assert!(folder.path("run/best/model.safetensors").is_file());
}

#[test]
fn an_output_that_cannot_be_written() {
    let folder = with_row(table(3..4).trim_end());
    folder.write("file", "a file");
    folder.write("t.txt", "red shoe\n");
    let run = |line: &str| folder.run(line).failed();
    let predict = "predict --model model --texts t.txt --output";
    assert_eq!(
        run(&format!("{predict} file/f.npy")),
        "file/f.npy: there is no folder `file` to write it in; create the folder first"
    );
    assert_eq!(
        run(&format!("{predict} gone/f.npy")),
        "gone/f.npy: there is no folder `gone` to write it in; create the folder first"
    );
    assert_eq!(
        run(&format!("{predict} model")),
        "model: the extension does not say how to write features; name it .safetensors, .npy, .jsonl, \
         .tsv or .parquet"
    );
    assert_eq!(
        run(&format!("{predict} f.docx")),
        "f.docx: the extension does not say how to write features; name it .safetensors, .npy, .jsonl, \
         .tsv or .parquet"
    );
    assert_eq!(
        run("tokenize --model model --texts t.txt --output file/ids.jsonl"),
        "file/ids.jsonl: there is no folder `file` to write it in; create the folder first"
    );
    let message = run(&format!("train --model model --train t.tsv {SCHEMA} --output file/run"));
    assert!(
        message.starts_with("file/run: ") && message.contains("Not a directory"),
        "{message}"
    );
    assert_eq!(folder.names(""), ["file", "model", "t.tsv", "t.txt"]);
    assert_eq!(folder.text("file"), "a file");
}

#[test]
fn an_output_of_before_stays_when_a_run_fails() {
    let folder = with_row("red shoe 0 0\tAAAA");
    folder.write("f.safetensors", "of before");
    let line = format!("predict --model model --table t.tsv {SCHEMA} --output f.safetensors");
    folder.run(&line).failed();
    assert_eq!(folder.text("f.safetensors"), "of before");
    assert_eq!(folder.names(""), ["f.safetensors", "model", "t.tsv"]);
}

#[test]
fn inputs_that_do_not_fit_the_model() {
    let folder = with_row("");
    let tensor = |name: &str, shape: &[usize]| {
        let values = vec![0.5; shape.iter().product()];
        folder.write("in.safetensors", super::support::tensors(&[(name, shape, &values)]));
        folder
            .run("predict --model model --inputs in.safetensors --output f.safetensors")
            .failed()
    };
    assert_eq!(
        tensor("pixels", &[1, 3, 8, 8]),
        "in.safetensors: pixels of shape [1, 3, 8, 8], where the model takes [any, 3, 16, 16]"
    );
    assert_eq!(
        tensor("pixels", &[1, 16, 16]),
        "in.safetensors: `pixels` of shape [1, 16, 16] instead of [N, 3, H, W]"
    );
    assert_eq!(
        tensor("input_ids", &[1, 4]),
        "in.safetensors: the array `input_ids` is of type F32; write it as int64, int32, uint8 or bool"
    );
    assert_eq!(
        tensor("other", &[1]),
        "in.safetensors: neither `pixels` nor `input_ids`, but: other; name the tensors so"
    );
}

#[test]
fn settings_that_make_no_sense() {
    let folder = with_row(table(3..4).trim_end());
    let train = format!("train --model model --train t.tsv {SCHEMA} --output run");
    let failed = |line: &str| folder.run(line).failed();
    folder.write("run.toml", "epochz = 3\n");
    assert_eq!(
        failed(&format!("{train} --config run.toml")),
        "run.toml, row 1: unknown key `epochz`; did you mean `epochs`?"
    );
    folder.write("run.toml", "epochs = \"many\"\n");
    assert_eq!(
        failed(&format!("{train} --config run.toml")),
        "run.toml, row 1: invalid type: string \"many\", expected u64; correct it"
    );
    folder.run(&format!("{train} --batch-size none")).refused();
    folder
        .run(&format!(
            "predict --model model --table t.tsv {SCHEMA} --output f.npy --threads 0"
        ))
        .misused();
    folder
        .run(&format!(
            "predict --model model --table t.tsv {SCHEMA} --output f.safetensors --batch-size 0"
        ))
        .misused();
}
