//! Packages from npm and PyPI, installed once under `target/tmp` from what is pinned in `conformance/clients`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::server::run_to_end;

/// The folder with what is pinned.
pub fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients")
}

/// A folder whose `node_modules` are those of the lock file in `conformance/clients/<name>`.
pub fn npm(name: &str) -> Result<PathBuf, String> {
    npm_in(&clients(), name)
}

/// The same for another folder than `conformance/clients`.
pub fn npm_in(pinned: &Path, name: &str) -> Result<PathBuf, String> {
    let folder = prepared(pinned, name, &["package.json", "package-lock.json"])?;
    installed(&folder, "package-lock.json", || {
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]);
        vec![npm]
    })?;
    Ok(folder)
}

/// The Python of a virtual environment with the packages of `conformance/clients/<name>/requirements.txt`.
pub fn python(name: &str) -> Result<PathBuf, String> {
    let folder = prepared(&clients(), name, &["requirements.txt"])?;
    let python = folder.join("venv/bin/python");
    installed(&folder, "requirements.txt", || {
        let mut venv = Command::new("python3");
        venv.args(["-m", "venv", "--clear", "venv"]);
        let mut pip = Command::new(&python);
        pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check"]);
        pip.args(["-r", "requirements.txt"]);
        vec![venv, pip]
    })?;
    Ok(python)
}

/// A folder under `target/tmp` with copies of these files.
fn prepared(pinned: &Path, name: &str, files: &[&str]) -> Result<PathBuf, String> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("packages").join(name);
    let copied = fs::create_dir_all(&folder).and_then(|()| {
        files.iter().try_for_each(|file| fs::copy(pinned.join(name).join(file), folder.join(file)).map(drop))
    });
    copied.map_err(|error| format!("{name}: {error}"))?;
    Ok(folder)
}

/// Runs the commands in the folder, unless they have run for this very content of the file that pins versions.
fn installed(folder: &Path, pins: &str, commands: impl FnOnce() -> Vec<Command>) -> Result<(), String> {
    let stamp = folder.join(".installed");
    let wanted = fs::read(folder.join(pins)).map_err(|error| error.to_string())?;
    if fs::read(&stamp).is_ok_and(|done| done == wanted) {
        return Ok(());
    }
    match fs::remove_file(&stamp) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.to_string()),
        _ => {}
    }
    for mut command in commands() {
        run_to_end(command.current_dir(folder))?;
    }
    fs::write(stamp, wanted).map_err(|error| error.to_string())
}
