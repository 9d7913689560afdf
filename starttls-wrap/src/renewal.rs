//! Patience with files that are just being renewed: for a moment a key and its certificate may not belong together, or be missing.

use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The pauses of one session.
#[derive(Debug, Default)]
pub struct Renewal {
    pauses: u32,
}

impl Renewal {
    /// How long to wait before these files are worth another look: none where they were not changed lately, or it was waited enough.
    pub fn pause(&mut self, files: &[PathBuf]) -> Option<Duration> {
        let now = SystemTime::now();
        if self.pauses >= PAUSES || !files.iter().any(|file| changed_lately(file, now)) {
            return None;
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << self.pauses);
        self.pauses = self.pauses.saturating_add(1);
        Some(pause)
    }

    /// Waits for that long; false where another look is not worth it.
    pub fn wait(&mut self, files: &[PathBuf]) -> bool {
        self.pause(files).inspect(|pause| std::thread::sleep(*pause)).is_some()
    }
}

/// Whether the file, its folder or a symbolic link on the way there is new: ACME clients write, rename, or set links anew.
fn changed_lately(file: &Path, now: SystemTime) -> bool {
    let is_new = |status: io::Result<Metadata>| {
        let changed = status.and_then(|status| status.modified());
        // A file server's clock may be ahead.
        let age = |time| now.duration_since(time).unwrap_or_else(|ahead| ahead.duration());
        changed.is_ok_and(|time| age(time) <= RENEWAL_TIME)
    };
    let is_new_link = |path: &Path| {
        let status = fs::symlink_metadata(path);
        status.as_ref().is_ok_and(Metadata::is_symlink) && is_new(status)
    };
    is_new(fs::metadata(file))
        || file.parent().is_some_and(|folder| is_new(fs::metadata(folder)))
        || file.ancestors().any(is_new_link)
}

/// No ACME client takes so long from its first file to its last.
const RENEWAL_TIME: Duration = Duration::from_secs(10);
/// Each of the next is twice as long: two seconds in all, a fifth of what net waits for a key.
const PAUSES: u32 = 11;
const FIRST_PAUSE: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    use std::fs::File;
    use std::os::unix::fs::symlink;

    fn set(path: &Path, time: Option<SystemTime>) {
        File::open(path).unwrap().set_modified(time.unwrap()).unwrap();
    }

    fn set_back(path: &Path) {
        set(path, SystemTime::now().checked_sub(Duration::from_secs(3600)));
    }

    // Nobody waits for a pair that has been wrong for long; a rename, a new link and a new content are all seen.
    #[test]
    fn only_what_was_changed_lately_is_waited_for() {
        let base =
            std::env::temp_dir().join(format!("starttls-wrap-renewal-{}", std::process::id()));
        let one = base.join("one");
        fs::create_dir_all(&one).unwrap();
        fs::write(one.join("mx.pem"), "").unwrap();
        let looks = |path: &str| Renewal::default().pause(&[base.join(path)]).is_some();
        assert!(looks("one/mx.pem"));
        set_back(&one.join("mx.pem"));
        assert!(looks("one/mx.pem"), "its folder is new");
        set_back(&one);
        assert!(!looks("one/mx.pem"));
        assert!(!looks("one/missing") && !looks("nowhere/missing"));
        set(&one.join("mx.pem"), SystemTime::now().checked_add(Duration::from_secs(5)));
        assert!(looks("one/mx.pem"), "a clock that is ahead");
        set_back(&one.join("mx.pem"));
        symlink("one", base.join("live")).unwrap();
        assert!(looks("live/mx.pem") && !looks("one/mx.pem"));
        fs::rename(one.join("mx.pem"), one.join("renamed")).unwrap();
        assert!(looks("one/mx.pem"), "it was there a moment ago");
        fs::remove_dir_all(base).unwrap();
    }

    #[test]
    fn it_is_waited_for_two_seconds_in_all() {
        let file =
            std::env::temp_dir().join(format!("starttls-wrap-pauses-{}", std::process::id()));
        fs::write(&file, "").unwrap();
        let mut renewal = Renewal::default();
        let pauses: Vec<Duration> =
            std::iter::from_fn(|| renewal.pause(std::slice::from_ref(&file))).collect();
        assert_eq!(pauses.first(), Some(&FIRST_PAUSE));
        assert_eq!(pauses.iter().sum::<Duration>(), Duration::from_millis(2047));
        fs::remove_file(file).unwrap();
    }
}
