//! The key, lent to net for one handshake.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use plumb::die::reason;
use plumb::fds::{packetpair, recv_packet, send_packet};
use plumb::process::{Ended, Fork, Pid, exit_now, fork, wait};
use plumb::{Doing, Result};

use super::{Monitor, Settings};
use crate::certs::Pair;
use crate::channel::ToNet;
use crate::key::{self, Key};
use crate::renewal::Renewal;

impl Monitor<'_> {
    /// Lets a key process answer on the channel, and opens files for it, until it ends.
    pub(super) fn lend_key(&mut self) {
        // Each key process signs once, so a net that could ask again could sign without end.
        if self.key_lent {
            self.log.line("tls key refused a second handshake");
            return self.answer(&ToNet::Unavailable);
        }
        let mut renewal = Renewal::default();
        let mut waits = false;
        while let Some(pause) = self.try_key(&mut renewal) {
            if !std::mem::replace(&mut waits, true) {
                self.log.line(RENEWED);
            }
            std::thread::sleep(pause);
        }
    }

    /// Serves one key process; how long to wait for the next where its files may have been in the middle of a renewal.
    fn try_key(&mut self, renewal: &mut Renewal) -> Option<Duration> {
        let paths = &self.settings.paths;
        let default = paths.open_default();
        // Looked at once they are open: what is changed later is not what was opened.
        let pause = renewal.pause(&paths.of_default());
        let (pid, files) = match default.and_then(|pair| self.fork_key(pair, pause.is_none())) {
            Ok(started) => started,
            Err(_) if pause.is_some() => return pause,
            Err(error) => {
                self.log.line(format_args!("tls key unusable: {error}"));
                self.answer(&ToNet::Unavailable);
                return None;
            }
        };
        if let Some(files) = files {
            self.open_files(&files);
        }
        match wait(pid) {
            Ok(Ended::Code(0)) => {
                self.key_lent = true;
                self.forget_program();
            }
            Ok(Ended::Code(key::UNUSABLE)) => return pause,
            Ok(Ended::Code(_)) => {}
            Ok(Ended::Signal(signal)) => {
                self.key_lent = true;
                self.log.line(format_args!("key killed signal={signal}"));
                self.answer(&ToNet::Refused);
            }
            Err(error) => {
                self.log.line(format_args!("unable to wait for key: {}", reason(&error)));
            }
        }
        None
    }

    fn fork_key(&mut self, default: Pair, last: bool) -> Result<(Pid, Option<OwnedFd>)> {
        let channel = self.channel.try_clone().doing("copy the channel")?;
        let (near, far) = match self.settings.paths.folder {
            None => (None, None),
            Some(_) => packetpair().doing("make a channel").map(|(a, b)| (Some(a), Some(b)))?,
        };
        match fork().doing("fork")? {
            Fork::Parent(pid) => Ok((pid, near)),
            Fork::Child => {
                drop(near);
                let key = Key { channel, default, files: far, last };
                let Settings { key_identity, strict, .. } = &self.settings;
                exit_now(key::serve(key, key_identity, *strict, self.log));
            }
        }
    }

    /// Opens what the key process asks for by name, until it ends.
    fn open_files(&mut self, files: &OwnedFd) {
        let (mut name, mut renewal, mut asked) = ([0; NAME_LIMIT], Renewal::default(), 0_u32);
        while let Ok(Some((length, _none))) = recv_packet(files, &mut name, None) {
            let name = name.get(..length).unwrap_or_default();
            let trouble = |error| self.log.line(format_args!("tls key unusable: {error}"));
            let pairs = self.settings.paths.open_for(name, asked > 0, &mut renewal, trouble);
            if asked == 1 && pairs.is_some() {
                self.log.line(RENEWED);
            }
            let descriptors: Vec<RawFd> = pairs
                .iter()
                .flatten()
                .flat_map(|pair| [pair.certificate.as_raw_fd(), pair.key.as_raw_fd()])
                .collect();
            let answer = if pairs.is_some() { key::FILES } else { key::NOTHING_ELSE };
            // A key process that is gone is noticed by waiting for it.
            let _ = send_packet(files, answer, &descriptors);
            asked = asked.saturating_add(1);
        }
    }
}

/// Said once, where files were opened again since they may be in the middle of a renewal.
const RENEWED: &str = "tls key is being renewed";
/// Longer names are nobody's.
const NAME_LIMIT: usize = 256;
