//! Where tokens are kept between connections, and between starts of a program.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::data::Token;

/// Keeps tokens by name. It is asked on the driver's thread, before each connection, so it has to be quick.
pub trait TokenStore: Send + Sync + fmt::Debug {
    /// The token under a name, if there is one.
    fn load(&self, name: &str) -> Option<Token>;

    /// Keeps a token, or with `None` forgets the one that is there.
    ///
    /// # Errors
    /// It could not be kept. The client goes on with it and says so in the log.
    fn save(&self, name: &str, token: Option<&Token>) -> io::Result<()>;
}

/// Keeps tokens in memory: clients that share it share their tokens.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<BTreeMap<String, Token>>);

impl TokenStore for MemoryStore {
    fn load(&self, name: &str) -> Option<Token> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn save(&self, name: &str, token: Option<&Token>) -> io::Result<()> {
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match token {
            Some(token) => tokens.insert(name.to_owned(), token.clone()),
            None => tokens.remove(name),
        };
        Ok(())
    }
}

/// Keeps tokens in a file that only its owner can read (mode 0600): a JSON object of names and tokens.
///
/// A save writes a new file beside it and renames it, so that no moment has half a file. Two processes that save at once do
/// not corrupt it, but one of the two saves may be lost.
#[derive(Debug)]
pub struct FileStore {
    path: PathBuf,
    saving: Mutex<()>,
}

/// A larger file is none of ours.
const FILE_MAX: u64 = 1 << 20;

impl FileStore {
    /// A store in that file, which need not exist yet; its folder has to.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), saving: Mutex::new(()) }
    }

    fn read(&self) -> io::Result<BTreeMap<String, String>> {
        let file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            other => other?,
        };
        let mut text = String::new();
        file.take(FILE_MAX).read_to_string(&mut text)?;
        serde_json::from_str(&text).map_err(io::Error::from)
    }

    fn write(&self, tokens: &BTreeMap<String, String>) -> io::Result<()> {
        let temporary = self.path.with_extension(format!("{}.tmp", std::process::id()));
        let written = create(&temporary).and_then(|mut file| {
            file.write_all(&serde_json::to_vec(tokens)?)?;
            file.sync_all()?;
            std::fs::rename(&temporary, &self.path)
        });
        if written.is_err() {
            let _ = std::fs::remove_file(&temporary);
        }
        written
    }
}

fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        // Left behind by a process of this number that died.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            std::fs::remove_file(path)?;
            options.open(path)
        }
        other => other,
    }
}

impl TokenStore for FileStore {
    fn load(&self, name: &str) -> Option<Token> {
        match self.read() {
            Ok(tokens) => tokens.get(name).map(|token| Token::from(token.as_str())),
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "tokens cannot be read");
                None
            }
        }
    }

    fn save(&self, name: &str, token: Option<&Token>) -> io::Result<()> {
        let _saving = self.saving.lock().unwrap_or_else(PoisonError::into_inner);
        let mut tokens = self.read()?;
        match token {
            Some(token) => tokens.insert(name.to_owned(), token.as_str().to_owned()),
            None => tokens.remove(name),
        };
        self.write(&tokens)
    }
}
