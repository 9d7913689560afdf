//! Who says what: which command a reply answers, what the client's next line is, and what must wait.

use std::collections::VecDeque;

use crate::command::Verb;
use crate::reply::ReplyLine;

/// What the next bytes of the client are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Nothing may be looked at before a reply has come.
    Nothing,
    /// A command.
    Command,
    /// A line of an AUTH exchange (RFC 4954 4).
    AuthResponse,
    /// The message (RFC 5321 4.1.1.4).
    Body,
    /// This many octets of a chunk (RFC 3030 2).
    Chunk(u64),
}

/// What a reply answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The connection itself.
    Greeting,
    /// A command.
    Command(Verb),
    /// A line of an AUTH exchange.
    AuthResponse,
    /// The end of the message.
    Body,
    /// A command of the relay's own, whose reply no client may see.
    Swallowed,
}

/// What a reply line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FromServer {
    /// (A line of) the reply to this.
    Reply(Asked),
    /// 421 out of turn: the server is about to close (RFC 5321 3.8).
    Closing,
    /// Nothing explains it.
    Unasked,
}

/// How many commands may be under way; more of them wait.
pub const PIPELINE_LIMIT: usize = 1024;

/// The state of one session, as a reader in the middle sees it.
#[derive(Debug)]
pub struct Dialogue {
    pending: VecDeque<Pending>,
    stage: Stage,
}

#[derive(Debug)]
enum Pending {
    Reply(Asked),
    Own(Vec<u8>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Commands,
    Auth,
    Body,
    Chunk(u64),
}

impl Default for Dialogue {
    fn default() -> Dialogue {
        Dialogue::new()
    }
}

impl Dialogue {
    /// At the start of a session, before the greeting.
    pub fn new() -> Dialogue {
        let greeting = Pending::Reply(Asked::Greeting);
        Dialogue { pending: VecDeque::from([greeting]), stage: Stage::Commands }
    }

    /// In the middle of a session, with nothing under way.
    pub fn greeted() -> Dialogue {
        Dialogue { pending: VecDeque::new(), stage: Stage::Commands }
    }

    /// What the client's next bytes are.
    pub fn expects(&self) -> Expect {
        match self.stage {
            Stage::Chunk(left) => Expect::Chunk(left),
            Stage::Body => Expect::Body,
            _ if self.waits() => Expect::Nothing,
            Stage::Commands => Expect::Command,
            Stage::Auth => Expect::AuthResponse,
        }
    }

    /// Whether the server owes a reply.
    pub fn owes_reply(&self) -> bool {
        self.pending.iter().any(|pending| matches!(pending, Pending::Reply(_)))
    }

    /// Whether a message or a chunk is under way.
    pub fn in_body(&self) -> bool {
        matches!(self.stage, Stage::Body | Stage::Chunk(_))
    }

    /// The client's command went on to the server.
    pub fn forwarded(&mut self, verb: Verb) {
        self.ask(Asked::Command(verb));
    }

    /// A BDAT command of this size went on to the server, and its octets are to follow.
    pub fn forwarded_chunk(&mut self, size: u64) {
        self.ask(Asked::Command(Verb::Bdat));
        self.chunk_left(size);
    }

    /// A BDAT command stays here; its octets must be eaten all the same (RFC 3030 4.2).
    pub fn refused_chunk(&mut self, size: u64, reply: &[u8]) {
        self.own(reply);
        self.chunk_left(size);
    }

    /// This many octets of the chunk have gone by.
    pub fn chunk_passed(&mut self, count: usize) {
        if let Stage::Chunk(left) = self.stage {
            self.chunk_left(left.saturating_sub(u64::try_from(count).unwrap_or(u64::MAX)));
        }
    }

    /// A line of an AUTH exchange went on to the server.
    pub fn forwarded_auth(&mut self) {
        self.stage = Stage::Commands;
        self.ask(Asked::AuthResponse);
    }

    /// The end of the message went on to the server.
    pub fn body_ended(&mut self) {
        self.stage = Stage::Commands;
        self.ask(Asked::Body);
    }

    /// The relay itself sent a command; the reply is for nobody else.
    pub fn sent_own_command(&mut self) {
        self.stage = Stage::Commands;
        self.ask(Asked::Swallowed);
    }

    /// The relay answers the command itself, when its turn comes (RFC 2920 3.2: in order).
    pub fn own(&mut self, reply: &[u8]) {
        self.pending.push_back(Pending::Own(reply.to_vec()));
    }

    /// A reply of the relay's own whose turn has come.
    pub fn due(&mut self) -> Option<Vec<u8>> {
        match self.pending.pop_front() {
            Some(Pending::Own(reply)) => Some(reply),
            Some(other) => {
                self.pending.push_front(other);
                None
            }
            None => None,
        }
    }

    /// Says what this reply line answers, and goes on to the next command where it is the last line.
    pub fn server(&mut self, line: &ReplyLine<'_>) -> FromServer {
        let Some(Pending::Reply(asked)) = self.pending.front() else {
            return unasked(line);
        };
        let asked = *asked;
        if self.stage == Stage::Body || !fits(asked, line.code) {
            return unasked(line);
        }
        if line.last {
            self.pending.pop_front();
            self.follow(asked, line.code);
        }
        FromServer::Reply(asked)
    }

    fn follow(&mut self, asked: Asked, code: u16) {
        match (asked, code) {
            (Asked::Command(Verb::Data), 354) => self.stage = Stage::Body,
            (Asked::Command(Verb::Auth) | Asked::AuthResponse, 334) => self.stage = Stage::Auth,
            _ => {}
        }
    }

    fn ask(&mut self, asked: Asked) {
        self.pending.push_back(Pending::Reply(asked));
    }

    fn chunk_left(&mut self, left: u64) {
        self.stage = if left == 0 { Stage::Commands } else { Stage::Chunk(left) };
    }

    fn waits(&self) -> bool {
        let barrier = match self.pending.back() {
            Some(Pending::Reply(Asked::Command(verb))) => verb.is_barrier(),
            Some(Pending::Reply(_)) => true,
            Some(Pending::Own(_)) | None => false,
        };
        barrier || self.pending.len() >= PIPELINE_LIMIT
    }
}

/// Only DATA opens a body, only AUTH asks for more (RFC 5321 4.3.2, RFC 4954 4).
fn fits(asked: Asked, code: u16) -> bool {
    match code {
        354 => asked == Asked::Command(Verb::Data),
        334 => matches!(asked, Asked::Command(Verb::Auth) | Asked::AuthResponse),
        _ => true,
    }
}

fn unasked(line: &ReplyLine<'_>) -> FromServer {
    if line.code == 421 { FromServer::Closing } else { FromServer::Unasked }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(dialogue: &mut Dialogue, line: &[u8]) -> FromServer {
        dialogue.server(&ReplyLine::parse(line).unwrap())
    }

    fn greeted() -> Dialogue {
        let mut dialogue = Dialogue::new();
        assert_eq!(dialogue.expects(), Expect::Nothing);
        assert_eq!(say(&mut dialogue, b"220-wait"), FromServer::Reply(Asked::Greeting));
        assert_eq!(dialogue.expects(), Expect::Nothing);
        assert_eq!(say(&mut dialogue, b"220 ready"), FromServer::Reply(Asked::Greeting));
        assert_eq!(dialogue.expects(), Expect::Command);
        dialogue
    }

    fn reply_to(verb: Verb) -> FromServer {
        FromServer::Reply(Asked::Command(verb))
    }

    // RFC 2920 3.2: replies in the order of the commands; DESIGN 6.6.
    #[test]
    fn own_replies_wait_for_their_turn() {
        let mut dialogue = greeted();
        dialogue.forwarded(Verb::Mail);
        dialogue.own(b"503 here\r\n");
        dialogue.forwarded(Verb::Rcpt);
        assert_eq!(dialogue.due(), None);
        assert_eq!(say(&mut dialogue, b"250 ok"), reply_to(Verb::Mail));
        assert_eq!(dialogue.due().unwrap(), b"503 here\r\n");
        assert_eq!(dialogue.due(), None);
        assert_eq!(say(&mut dialogue, b"250 ok"), reply_to(Verb::Rcpt));
        assert!(!dialogue.owes_reply());
    }

    // DESIGN 6.2: what follows DATA, AUTH, STARTTLS, EHLO or BDAT waits for its reply; other commands are pipelined.
    #[test]
    fn barriers_hold_what_follows() {
        for (verb, waits) in [
            (Verb::Data, true),
            (Verb::Auth, true),
            (Verb::StartTls, true),
            (Verb::Ehlo, true),
            (Verb::Quit, true),
            (Verb::Helo, false),
            (Verb::Mail, false),
            (Verb::Rcpt, false),
            (Verb::Rset, false),
            (Verb::Noop, false),
            (Verb::Other, false),
        ] {
            let mut dialogue = greeted();
            dialogue.forwarded(verb);
            assert_eq!(dialogue.expects() == Expect::Nothing, waits, "{verb:?}");
            say(&mut dialogue, b"250 ok");
            assert_eq!(dialogue.expects(), Expect::Command);
        }
    }

    // DESIGN 6.2: only 354 opens a body; 6.5: a reply inside a body, or that no command explains, ends the session.
    #[test]
    fn a_body_opens_with_354_and_ends_with_one_reply() {
        let mut dialogue = greeted();
        dialogue.forwarded(Verb::Data);
        assert_eq!(say(&mut dialogue, b"503 RCPT first"), reply_to(Verb::Data));
        assert_eq!(dialogue.expects(), Expect::Command);
        dialogue.forwarded(Verb::Data);
        assert_eq!(say(&mut dialogue, b"354 go"), reply_to(Verb::Data));
        assert_eq!(dialogue.expects(), Expect::Body);
        assert_eq!(say(&mut dialogue, b"250 ok"), FromServer::Unasked);
        assert_eq!(say(&mut dialogue, b"421 down"), FromServer::Closing);
        dialogue.body_ended();
        assert_eq!(dialogue.expects(), Expect::Nothing);
        assert_eq!(say(&mut dialogue, b"250 queued"), FromServer::Reply(Asked::Body));
        assert_eq!(say(&mut dialogue, b"250 again"), FromServer::Unasked);
    }

    #[test]
    fn no_other_command_explains_354_or_334() {
        for (verb, code) in [
            (Verb::Other, "354 x"),
            (Verb::Bdat, "354 x"),
            (Verb::Auth, "354 x"),
            (Verb::Other, "334 x"),
            (Verb::Data, "334 x"),
        ] {
            let mut dialogue = greeted();
            dialogue.forwarded(verb);
            assert_eq!(say(&mut dialogue, code.as_bytes()), FromServer::Unasked, "{verb:?} {code}");
        }
    }

    // RFC 4954 4: the exchange goes on while the server says 334.
    #[test]
    fn only_334_makes_the_next_line_an_auth_line() {
        let mut dialogue = greeted();
        dialogue.forwarded(Verb::Auth);
        say(&mut dialogue, b"334 ");
        assert_eq!(dialogue.expects(), Expect::AuthResponse);
        dialogue.forwarded_auth();
        assert_eq!(dialogue.expects(), Expect::Nothing);
        assert_eq!(say(&mut dialogue, b"334 x"), FromServer::Reply(Asked::AuthResponse));
        dialogue.forwarded_auth();
        say(&mut dialogue, b"235 ok");
        assert_eq!(dialogue.expects(), Expect::Command);
    }

    // RFC 3030 2 and 4.2: octets are counted, and eaten where BDAT is refused.
    #[test]
    fn chunks_are_counted() {
        let mut dialogue = greeted();
        dialogue.forwarded_chunk(5);
        dialogue.chunk_passed(3);
        assert_eq!(dialogue.expects(), Expect::Chunk(2));
        assert_eq!(say(&mut dialogue, b"250 early"), reply_to(Verb::Bdat));
        assert_eq!(dialogue.expects(), Expect::Chunk(2));
        dialogue.chunk_passed(2);
        assert_eq!(dialogue.expects(), Expect::Command);
        dialogue.forwarded_chunk(0);
        assert_eq!(dialogue.expects(), Expect::Nothing);
        say(&mut dialogue, b"250 ok");
        dialogue.refused_chunk(1, b"503 no\r\n");
        assert_eq!(dialogue.expects(), Expect::Chunk(1));
        dialogue.chunk_passed(1);
        assert_eq!(dialogue.due().unwrap(), b"503 no\r\n");
        assert_eq!(dialogue.expects(), Expect::Command);
    }

    #[test]
    fn a_full_pipeline_waits_and_goes_on() {
        let mut dialogue = greeted();
        for _ in 0..PIPELINE_LIMIT {
            assert_eq!(dialogue.expects(), Expect::Command);
            dialogue.forwarded(Verb::Noop);
        }
        assert_eq!(dialogue.expects(), Expect::Nothing);
        say(&mut dialogue, b"250 ok");
        assert_eq!(dialogue.expects(), Expect::Command);
    }

    #[test]
    fn replies_to_the_relays_own_commands_are_told_apart() {
        let mut dialogue = greeted();
        dialogue.sent_own_command();
        assert_eq!(dialogue.expects(), Expect::Nothing);
        assert_eq!(say(&mut dialogue, b"250 flushed"), FromServer::Reply(Asked::Swallowed));
        assert_eq!(dialogue.expects(), Expect::Command);
    }
}
