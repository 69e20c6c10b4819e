//! Reads single members of a package file (`.tgz`) without unpacking it.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use flate2::read::GzDecoder;
use serde::de::DeserializeOwned;

/// No member we read is larger than 20 MB; a file that claims more is not what it should be.
const LARGEST_MEMBER: u64 = 64 << 20;

/// The one file in `folder` that holds `package` (`@scope/name` or `name`), in whatever version.
pub(crate) fn find(folder: &Path, package: &str) -> Result<PathBuf> {
    let prefix = format!("{}-", package.trim_start_matches('@').replace('/', "-"));
    let mut found = Vec::new();
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read the folder {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let version = name.strip_prefix(&prefix).and_then(|rest| rest.strip_suffix(".tgz"));
        if version.is_some_and(|version| version.starts_with(|c: char| c.is_ascii_digit())) {
            found.push(path);
        }
    }
    found.sort();
    match found.as_slice() {
        [one] => Ok(one.clone()),
        [] => bail!(
            "{}: there is no package {package} here; get it with `npm pack {package}`",
            folder.display()
        ),
        several => bail!(
            "{}: {} versions of {package}; keep one",
            folder.display(),
            several.len()
        ),
    }
}

/// Reads the JSON members `names` (as `chars.json`) of the package file at `path`, in the order asked for.
pub(crate) fn read_members<const N: usize>(path: &Path, names: [&str; N]) -> Result<[Vec<u8>; N]> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut archive = tar::Archive::new(GzDecoder::new(file));
    let mut found = [const { None }; N];
    let broken = || format!("{} is not a whole package file; fetch it again", path.display());
    for entry in archive.entries().with_context(broken)? {
        let mut entry = entry.with_context(broken)?;
        let member = entry.path().with_context(broken)?.to_string_lossy().into_owned();
        let Some(slot) = names
            .iter()
            .position(|name| member.strip_prefix("package/") == Some(name))
        else {
            continue;
        };
        if entry.size() > LARGEST_MEMBER {
            bail!(
                "{}: {member} holds {} bytes, more than such a file has",
                path.display(),
                entry.size()
            );
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).with_context(broken)?;
        found[slot] = Some(bytes);
        if found.iter().all(Option::is_some) {
            break;
        }
    }
    if let Some(missing) = found.iter().position(Option::is_none) {
        bail!("{} has no member {}", path.display(), names[missing]);
    }
    Ok(found.map(Option::unwrap_or_default))
}

/// Parses one member that was read from `path`.
pub(crate) fn parse<T: DeserializeOwned>(path: &Path, member: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes)
        .with_context(|| format!("{}: {member} has another shape than expected", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(folder: &Path, name: &str, members: &[(&str, &str)]) -> PathBuf {
        let path = folder.join(name);
        let gz = flate2::write::GzEncoder::new(File::create(&path).unwrap(), flate2::Compression::fast());
        let mut tar = tar::Builder::new(gz);
        for (member, text) in members {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, format!("package/{member}"), text.as_bytes())
                .unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap();
        path
    }

    #[test]
    fn members_come_in_the_order_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = package(
            folder.path(),
            "p-1.0.0.tgz",
            &[("b.json", "2"), ("x.json", "0"), ("a.json", "1")],
        );
        let [a, b] = read_members(&path, ["a.json", "b.json"]).unwrap();
        assert_eq!((a.as_slice(), b.as_slice()), (b"1".as_slice(), b"2".as_slice()));
        let missing = read_members(&path, ["a.json", "c.json"]).unwrap_err().to_string();
        assert!(missing.ends_with("has no member c.json"), "{missing}");
    }

    #[test]
    fn a_package_is_found_by_its_scoped_name_and_not_by_a_longer_one() {
        let folder = tempfile::tempdir().unwrap();
        package(folder.path(), "iconify-json-noto-v1-1.0.0.tgz", &[]);
        let missing = find(folder.path(), "@iconify-json/noto").unwrap_err().to_string();
        assert!(missing.contains("npm pack @iconify-json/noto"), "{missing}");
        let path = package(folder.path(), "iconify-json-noto-1.2.9.tgz", &[]);
        assert_eq!(find(folder.path(), "@iconify-json/noto").unwrap(), path);
        package(folder.path(), "iconify-json-noto-1.3.0.tgz", &[]);
        assert!(
            find(folder.path(), "@iconify-json/noto")
                .unwrap_err()
                .to_string()
                .contains("2 versions")
        );
    }

    #[test]
    fn a_cut_package_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = package(folder.path(), "p-1.0.0.tgz", &[("a.json", "[1, 2, 3]")]);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() / 3]).unwrap();
        let message = read_members(&path, ["a.json"]).unwrap_err().to_string();
        assert!(message.contains("not a whole package file"), "{message}");
    }
}
