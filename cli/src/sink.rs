//! Puts a token into a file: all of it or nothing, and never for other eyes, whenever this process is killed.

use crate::failure::Failure;
use crate::held::Held;
use crate::output;
use crate::temporary;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use token_manager_config::{File, group_id, user_id};

/// What the names of temporary files have in them.
const TEMPORARY: &str = ".tkm-";

/// A file to be kept, with what its settings say looked up.
pub struct Sink {
    pub path: PathBuf,
    output: String,
    template: Option<String>,
    mode: u32,
    owner: Option<u32>,
    group: Option<u32>,
    pub hook: Vec<String>,
}

impl Sink {
    pub fn new(file: &File) -> Result<Sink, Failure> {
        let File { path, output, template, mode, owner, group, hook, .. } = file.clone();
        let unknown =
            |kind: &str, name: &str| Failure::new(crate::failure::CONFIG, format!("there is no {kind} {name:?}"));
        let user = |name: &String| user_id(name).ok_or_else(|| unknown("user", name));
        let of_group = |name: &String| group_id(name).ok_or_else(|| unknown("group", name));
        let mode = mode.and_then(|mode| u32::from_str_radix(&mode, 8).ok()).unwrap_or(0o600);
        Ok(Sink {
            path,
            output: output.unwrap_or_else(|| "text".into()),
            template,
            mode,
            owner: owner.as_ref().map(user).transpose()?,
            group: group.as_ref().map(of_group).transpose()?,
            hook,
        })
    }

    /// A file of this user's alone.
    pub fn private(path: PathBuf) -> Sink {
        let (output, template, hook) = ("text".to_owned(), None, Vec::new());
        Sink { path, output, template, mode: 0o600, owner: None, group: None, hook }
    }

    /// A file that everybody may read, for what is no secret.
    pub fn readable(path: PathBuf) -> Sink {
        Sink { mode: 0o644, ..Sink::private(path) }
    }

    /// Replaces the file. Others read the old one or the new one, whole, with the right owner.
    pub fn write(&self, name: &str, held: &Held) -> Result<(), Failure> {
        let text = match &self.template {
            Some(template) => template.replace("{token}", &held.secret),
            None => output::write(held, &self.output, name, "TKM_TOKEN")?,
        };
        self.write_text(&text)
    }

    /// Replaces the file by this text.
    pub fn write_text(&self, text: &str) -> Result<(), Failure> {
        let sync = |folder: &Path| fs::File::open(folder)?.sync_all();
        self.replace(text.as_bytes(), sync)
            .map_err(|error| Failure::io(format!("{} cannot be written", self.path.display()), &error))
    }

    fn replace(&self, content: &[u8], sync: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
        let folder = self.folder();
        let temporary = folder.join(self.temporary_name());
        let written = self.write_new(&temporary, content).and_then(|()| fs::rename(&temporary, &self.path));
        if written.is_err() {
            // It holds a token; if it cannot be removed, the next agent removes it.
            let _ = fs::remove_file(&temporary);
        }
        written?;
        // So that the change outlives a power cut. The file is there all the same.
        if let Err(error) = sync(folder) {
            log::info!("{} may lose its newest files in a power cut: {error}", folder.display());
        }
        self.sweep();
        Ok(())
    }

    fn write_new(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        // Before there is anything in it to read.
        if self.owner.is_some() || self.group.is_some() {
            fchown(&file, self.owner, self.group)?;
        }
        file.set_permissions(Permissions::from_mode(self.mode))?;
        file.write_all(content)?;
        file.sync_all()
    }

    fn folder(&self) -> &Path {
        temporary::folder_of(&self.path)
    }

    fn base(&self) -> String {
        format!(".{}{TEMPORARY}", self.path.file_name().unwrap_or_default().to_string_lossy())
    }

    fn temporary_name(&self) -> String {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        format!("{}{}-{}", self.base(), process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
    }

    /// Removes what killed agents have left.
    pub fn sweep(&self) {
        for path in temporary::abandoned(self.folder(), &self.base()) {
            if fs::remove_file(&path).is_ok() {
                log::info!("removed {}, which a killed agent had left", path.display());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::sink::Sink;
    use std::fs;
    use std::io;

    #[test]
    fn a_file_that_is_there_counts_as_written_whatever_becomes_of_its_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let sink = Sink::private(folder.path().join("token"));
        sink.replace(b"first", |_| Err(io::ErrorKind::PermissionDenied.into())).expect("it is there");
        assert_eq!(fs::read(&sink.path).expect("a file"), b"first");
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1, "nothing else is left");
    }
}
