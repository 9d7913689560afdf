//! One connection to a chain without a UCSPI server, as inetd would start it: its exit code is seen.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::thread;

use crate::folder::Folder;
use crate::server::Builder;
use crate::{Client, Process, process, until};

/// A chain that serves one connection.
#[derive(Debug)]
pub struct Single {
    chain: Child,
    /// The connection.
    pub client: Client,
    /// The folder, as a server has it.
    pub folder: Folder,
}

impl Builder {
    /// Starts the chain with a socket as 0 and 1.
    pub fn single(self) -> Single {
        self.one(|chain, socket| {
            let input = socket.try_clone().expect("copy a socket");
            let chain = chain.stdin(OwnedFd::from(input)).stdout(OwnedFd::from(socket));
            chain.spawn().expect("start the chain")
        })
    }

    /// Starts the chain with a pipe as 0 and another as 1.
    pub fn single_by_pipes(self) -> Single {
        self.one(|chain, socket| {
            let chain = chain.stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut chain = chain.spawn().expect("start the chain");
            let from_client = socket.try_clone().expect("copy a socket");
            let input = chain.stdin.take().expect("a pipe");
            let output = chain.stdout.take().expect("a pipe");
            thread::spawn(move || pass(from_client, input));
            thread::spawn(move || {
                pass(output, &socket);
                // The client may be gone already.
                socket.shutdown(Shutdown::Write).ok();
            });
            chain
        })
    }

    fn one(self, start: impl FnOnce(&mut Command, TcpStream) -> Child) -> Single {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
        let address = listener.local_addr().expect("the listener's address");
        let client = Client::connect(address, &self.folder.path("ca.pem"));
        let (socket, _) = listener.accept().expect("accept");
        let (mut command, folder) = self.command();
        let log = File::options().append(true).create(true).open(folder.path("log"));
        let chain = start(command.stderr(log.expect("open the log")), socket);
        Single { chain, client, folder }
    }
}

impl Single {
    /// Ends the connection, waits for the end of the chain's first process and gives its exit code.
    pub fn code(&mut self) -> Option<i32> {
        // The chain may have reset it.
        self.client.stream().shutdown(Shutdown::Both).ok();
        until("the end of the chain", || self.chain.try_wait().expect("wait")).code()
    }

    /// The chain's processes.
    pub fn processes(&self) -> Vec<Process> {
        let pid = self.chain.id().try_into().expect("a pid");
        let mut found: Vec<_> = process::of(pid).into_iter().collect();
        let mut next = 0;
        while next < found.len() {
            found.extend(found[next].children());
            next += 1;
        }
        found
    }

    /// What the chain has written to descriptor 2.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.folder.path("log")).unwrap_or_default())
            .into_owned()
    }
}

impl Drop for Single {
    fn drop(&mut self) {
        // Where it has ended already there is nothing to kill.
        self.chain.kill().ok();
        self.chain.wait().expect("wait for the chain");
    }
}

/// Copies until one side takes or gives no more. Not std's copy: its splice(2) holds the pipe while it waits, and so its reader.
fn pass(mut from: impl Read, mut to: impl Write) {
    let mut buffer = [0; 16_384];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}
