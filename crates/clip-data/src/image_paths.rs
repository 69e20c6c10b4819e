//! Pictures named on the command line: files, and folders of them.

use std::fs;
use std::path::{Path, PathBuf};

use clip_core::{Error, Result};

use crate::image_cell::{PICTURE_EXTENSIONS, is_picture_name};

/// The pictures that files and folders name. A file is taken as it is; a folder gives the pictures in it and in its
/// folders, by extension, sorted by path, those whose name starts with a dot left out. The arguments keep their order.
///
/// # Errors
/// A path does not exist, or a folder holds no picture.
pub fn image_paths(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in paths {
        if fs::metadata(path)
            .map_err(|error| Error::io("read", path, error))?
            .is_dir()
        {
            found.extend(pictures_in(path)?);
        } else {
            found.push(path.clone());
        }
    }
    Ok(found)
}

/// The pictures in a folder and in its folders, sorted by path; none is an error.
pub(crate) fn pictures_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    walk(folder, &mut found)?;
    if found.is_empty() {
        return Err(Error::not_found("there is no picture in this folder")
            .file(folder)
            .remedy(format!("pictures end in one of: {}", PICTURE_EXTENSIONS.join(", "))));
    }
    found.sort_unstable();
    Ok(found)
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let io = |error| Error::io("read", folder, error);
    for entry in fs::read_dir(folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') {
            continue;
        }
        let path = entry.path();
        let kind = entry.file_type().map_err(io)?;
        // Links are followed; one that leads nowhere is kept, if it is named like a picture, and reported when opened.
        if kind.is_dir() || (kind.is_symlink() && path.is_dir()) {
            if kind.is_symlink()
                && fs::canonicalize(folder)
                    .map_err(io)?
                    .starts_with(fs::canonicalize(&path).map_err(io)?)
            {
                return Err(Error::invalid("this link leads back to a folder above it")
                    .file(path)
                    .remedy("remove it"));
            }
            walk(&path, found)?;
        } else if is_picture_name(&name) {
            found.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_sorted_and_files_keep_their_place() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("shop/b")).unwrap();
        for name in [
            "shop/c.PNG",
            "shop/b/2.jpg",
            "shop/b/1.jpg",
            "shop/a.webp",
            "shop/.hidden.jpg",
            "shop/a.txt",
            "z",
        ] {
            fs::write(root.join(name), "").unwrap();
        }
        let found = image_paths(&[root.join("z"), root.join("shop")]).unwrap();
        let names = ["z", "shop/a.webp", "shop/b/1.jpg", "shop/b/2.jpg", "shop/c.PNG"].map(|name| root.join(name));
        assert_eq!(found, names);
    }

    #[test]
    fn nothing_there_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let expected = format!(
            "{}: there is no picture in this folder; pictures end in one of: jpg, jpeg, png, webp, gif, bmp",
            folder.path().display()
        );
        assert_eq!(
            image_paths(&[folder.path().to_owned()]).unwrap_err().to_string(),
            expected
        );
        let error = image_paths(&[folder.path().join("no.jpg")]).unwrap_err();
        assert_eq!(error.kind(), clip_core::Kind::NotFound);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_that_leads_back_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.jpg"), "").unwrap();
        std::os::unix::fs::symlink(folder.path(), folder.path().join("again")).unwrap();
        let error = image_paths(&[folder.path().to_owned()]).unwrap_err();
        assert_eq!(error.what(), "this link leads back to a folder above it");
    }
}
