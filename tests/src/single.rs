//! One connection to a chain without a UCSPI server, as inetd would start it: its exit code is seen.

use std::fs::File;
use std::io::copy;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::thread;

use crate::folder::Folder;
use crate::server::Builder;
use crate::{Client, until};

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
            let mut from_client = socket.try_clone().expect("copy a socket");
            let mut to_client = socket;
            let mut input = chain.stdin.take().expect("a pipe");
            let mut output = chain.stdout.take().expect("a pipe");
            // A chain that has ended takes nothing more, and a client that has gone neither.
            thread::spawn(move || copy(&mut from_client, &mut input).ok());
            thread::spawn(move || {
                copy(&mut output, &mut to_client).ok();
                to_client.shutdown(Shutdown::Write).ok();
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
    /// Waits for the end of the chain's first process and gives its exit code.
    pub fn code(&mut self) -> Option<i32> {
        until("the end of the chain", || self.chain.try_wait().expect("wait")).code()
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
