//! Servers with greylist in their chain, and what every test asks of them.

use std::fs;
use std::process::Command;

use crate::folder::NAME;
use crate::programs::{self, root};
use crate::server::Builder;
use crate::{Client, Server};

/// greylist in front of smtpd.
pub const GREYLIST: &str = "greylist setuidgid nobody smtpd";

/// The chain with a store in a folder of the ordinary user's; whoever comes back at once may come in.
pub fn greylist(chain: &str) -> Builder {
    let server = Server::new(chain).env("GREYLIST_DELAY", "0");
    fs::create_dir(server.folder.path("grey")).expect("make the store's folder");
    if root() {
        server.folder.give("grey");
    }
    let store = server.folder.text("grey/store");
    server.env("GREYLIST_DB", &store)
}

/// A recipient that smtpd takes.
pub fn postmaster() -> String {
    format!("postmaster@{NAME}")
}

/// MAIL, RCPT and DATA, pipelined; gives their replies.
pub fn try_mail(client: &mut Client, sender: &str) -> [String; 3] {
    let recipient = postmaster();
    client.send(format!("MAIL FROM:<{sender}>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n"));
    [(); 3].map(|()| client.reply())
}

/// All but MAIL were refused for now.
pub fn assert_grey(replies: &[String; 3]) {
    assert!(replies[0].starts_with("250 "), "{replies:?}");
    for reply in &replies[1..] {
        assert!(reply.starts_with("450 4.7.1 Greylisted, retry=00:00:0"), "{replies:?}");
    }
}

/// A client that has said EHLO.
pub fn greet(server: &Server) -> Client {
    let mut client = server.connect();
    client.reply();
    client.expect("EHLO client.test", "250");
    client
}

/// greylistctl on the server's store.
pub fn greylistctl(server: &Server, words: &[&str]) -> Command {
    let mut command = Command::new(programs::folder().join("greylistctl"));
    command.args(["-f", &server.folder.text("grey/store")]).args(words);
    command
}

/// What greylistctl says, which must succeed.
pub fn ctl(server: &Server, words: &[&str]) -> String {
    let output = greylistctl(server, words).output().expect("greylistctl");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {errors}");
    String::from_utf8(output.stdout).expect("text")
}
