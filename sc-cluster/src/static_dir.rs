//! A folder of files, and the one question asked of it: which file is meant by this path?

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::pages::OpenFile;

/// Parts a path may have.
const DEPTH_MAX: usize = 32;

/// A folder served under a prefix.
#[derive(Debug)]
pub(crate) struct StaticDir {
    /// Without a `/` at its end: empty for the root.
    prefix: String,
    dir: PathBuf,
}

/// What a path leads to.
#[derive(Debug)]
pub(crate) enum Found {
    /// Nothing that may be served.
    Nothing,
    /// A folder, asked for without the `/` that its relative links need.
    Folder,
    /// A file.
    File(OpenFile),
}

impl StaticDir {
    pub(crate) fn new(prefix: &str, dir: PathBuf) -> Self {
        Self { prefix: prefix.trim_end_matches('/').to_owned(), dir }
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Whether the path is under the prefix.
    pub(crate) fn covers(&self, path: &str) -> bool {
        path.strip_prefix(self.prefix.as_str()).is_some_and(|rest| rest.starts_with('/'))
    }

    /// Finds the file of a path (as it came in the request, without its query).
    pub(crate) fn find(&self, path: &str) -> Found {
        let Some(rest) = path.strip_prefix(self.prefix.as_str()) else {
            return Found::Nothing;
        };
        let Some(rest) = percent_decode(rest) else {
            return Found::Nothing;
        };
        let wants_folder = rest.ends_with('/');
        let parts: Vec<&str> = rest.split('/').filter(|part| !part.is_empty()).collect();
        if parts.len() > DEPTH_MAX || parts.iter().any(|part| !is_plain(part)) {
            return Found::Nothing;
        }
        let index = if wants_folder { "index.html" } else { "" };
        let parts = parts.into_iter().chain((!index.is_empty()).then_some(index));
        open_below(&self.dir, parts).unwrap_or(Found::Nothing)
    }
}

/// A name that may be served: no step upwards, nothing hidden, no other system's separator, nothing that ends a string in C.
fn is_plain(part: &str) -> bool {
    !part.starts_with('.') && !part.contains(['/', '\\', '\0'])
}

/// Goes down part by part and follows no link on the way, so whatever is in the folder, nothing outside can be reached. The folder itself may be a link.
fn open_below<'a>(dir: &Path, parts: impl Iterator<Item = &'a str>) -> io::Result<Found> {
    // NONBLOCK: opening a named pipe must not wait for its other end.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let mut here: OwnedFd = openat(CWD, dir, flags | OFlags::DIRECTORY, Mode::empty())?;
    let mut name = "";
    for part in parts {
        here = openat(&here, part, flags | OFlags::NOFOLLOW, Mode::empty())?;
        name = part;
    }
    let file = File::from(here);
    let meta = file.metadata()?;
    if meta.is_dir() {
        return Ok(Found::Folder);
    }
    if !meta.is_file() {
        return Ok(Found::Nothing);
    }
    let modified = meta.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    let content_type = mime_guess::from_path(name).first_raw().unwrap_or("application/octet-stream");
    Ok(Found::File(OpenFile { file, len: meta.len(), modified_secs: modified.as_secs(), content_type }))
}

/// `None` for a broken escape and for what is no UTF-8.
fn percent_decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|digit| char::from(digit).to_digit(16));
        let (high, low) = (digit()?, digit()?);
        out.push((high * 16 + low) as u8);
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn file_len(found: Found) -> Option<u64> {
        match found {
            Found::File(open) => Some(open.len),
            Found::Folder | Found::Nothing => None,
        }
    }

    #[test]
    fn only_what_is_inside_is_found() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "secret").unwrap();
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("sub")).unwrap();
        fs::write(root.path().join("sub/a b.txt"), "four").unwrap();
        fs::write(root.path().join(".hidden"), "x").unwrap();
        symlink(outside.path(), root.path().join("out")).unwrap();
        symlink(outside.path().join("secret"), root.path().join("link")).unwrap();
        let dir = StaticDir::new("/p/", root.path().to_owned());
        assert_eq!(file_len(dir.find("/p/sub/a%20b.txt")), Some(4));
        assert_eq!(file_len(dir.find("/p//sub//a b.txt")), Some(4));
        assert!(matches!(dir.find("/p/sub"), Found::Folder));
        let outside_name = outside.path().file_name().unwrap().to_str().unwrap();
        for path in [
            "/p/link",
            "/p/out/secret",
            "/p/.hidden",
            "/p/%2ehidden",
            "/p/sub/../sub/a%20b.txt",
            &format!("/p/../{outside_name}/secret"),
            &format!("/p/%2e%2e/{outside_name}/secret"),
            &format!("/p/..%2f{outside_name}%2fsecret"),
            "/p/sub/a%20b.txt%00",
            "/p/sub/a%2",
            "/p/sub/",
            "/p/",
            "/p",
            "/q/sub/a%20b.txt",
        ] {
            assert_eq!(file_len(dir.find(path)), None, "{path}");
        }
    }

    #[test]
    fn a_prefix_covers_whole_parts() {
        let dir = StaticDir::new("/img", PathBuf::from("/nowhere"));
        assert!(dir.covers("/img/") && dir.covers("/img/x"));
        assert!(!dir.covers("/img") && !dir.covers("/images/x"));
        assert!(StaticDir::new("/", PathBuf::from("/nowhere")).covers("/x"));
    }
}
