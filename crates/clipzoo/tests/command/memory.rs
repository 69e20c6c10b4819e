//! A table larger than memory should ever have to hold.
#![cfg(target_os = "linux")]

use std::fs::File;
use std::io::{BufWriter, Write};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::support::{Folder, SCHEMA, base64, small_model};

/// The most memory a run may hold, libtorch's own libraries included.
const MOST: u64 = 600 << 20;

/// Rows, and about how many bytes each picture's cell has: 2 GB in all.
const ROWS: usize = 25_000;
const CELL: usize = 80_000;

/// A small picture in a large file: what decodes fast and still has to be read, decoded from base64 and let go.
fn picture(number: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 16, 16);
    encoder.set_color(png::ColorType::Rgb);
    let mut writer = encoder.write_header().unwrap();
    let filling: Vec<u8> = (0..CELL * 3 / 4).map(|i| (i as u8).wrapping_mul(number | 1)).collect();
    // A private chunk, which every reader passes over.
    writer.write_chunk(png::chunk::ChunkType(*b"paDd"), &filling).unwrap();
    writer
        .write_image_data(&[number, 255 - number, 90].repeat(256))
        .unwrap();
    writer.finish().unwrap();
    bytes
}

fn write_table(folder: &Folder) -> u64 {
    let cells: Vec<String> = (0..50).map(|number| base64(&picture(5 * number))).collect();
    let mut file = BufWriter::with_capacity(1 << 20, File::create(folder.path("large.tsv")).unwrap());
    for row in 0..ROWS {
        writeln!(file, "red shoe {} {}\t{}", row % 6, row / 6 % 6, cells[row % 50]).unwrap();
    }
    file.into_inner().unwrap().metadata().unwrap().len()
}

/// Runs a command to its end and gives the most memory it held (`VmHWM`), in bytes.
pub(crate) fn peak(mut command: Command) -> u64 {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut most = 0;
    let ended = loop {
        // The line is gone once the process has ended; what was read last is the peak up to a moment before.
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        if let Some(kilobytes) = line.and_then(|line| line.trim().strip_suffix(" kB")) {
            most = most.max(kilobytes.parse::<u64>().unwrap() << 10);
        }
        match child.try_wait().unwrap() {
            Some(ended) => break ended,
            None => sleep(Duration::from_millis(5)),
        }
    };
    assert!(ended.success());
    most
}

#[test]
#[ignore = "writes 2 GB; `cargo xtask test --all` runs it"]
fn a_table_of_two_gigabytes_is_read_in_little_memory() {
    let folder = Folder::new();
    small_model(&folder, "model");
    let bytes = write_table(&folder);
    assert!(bytes > 2_000_000_000, "{bytes}");
    let predict = format!("predict --model model --table large.tsv {SCHEMA} --output f.safetensors --batch-size 256");
    let train =
        format!("train --model model --train large.tsv {SCHEMA} --output run --epochs 1 --batch-size 500 --device cpu");
    for line in [predict, train] {
        let start = Instant::now();
        let most = peak(folder.command(&line));
        let name = line.split_whitespace().next().unwrap();
        println!(
            "{name}: VmHWM {} MB, {:.0} s",
            most / 1_000_000,
            start.elapsed().as_secs_f32()
        );
        assert!(most > 0 && most < MOST, "{name} held {most} bytes");
    }
}
