//! authpass turns a password into one line for authcdb.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;

use authcheck::attempt::PASSWORD_MAX;
use authcheck::cram::Context;
use authcheck::password;
use authcheck::record::Record;
use authcheck::scram::{self, Verifier};
use authcheck::secret::Secret;
use authcheck::store::lower_domain;
use authcheck::verify::is_login;
use nix::sys::termios::{self, LocalFlags, SetArg};
use plumb::{Doing, Error, Result};
use zeroize::Zeroize;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report("authpass"),
    }
}

fn run() -> Result<()> {
    plumb::process::begin()?;
    let options = Options::parse()?;
    let password = ask()?;
    if !password.is_ascii() {
        warn("the password is not ASCII: SCRAM clients may send another spelling of it");
    }
    let mut record = options.record;
    let hash = password::argon2id(&password, &random()?);
    let hash = hash.map_err(|_| Error::temporary("not enough memory for argon2id"))?;
    record.password = Some(Secret::new(hash.into_bytes()));
    record.scram = Some(Verifier::new(&password, &random::<{ scram::SALT }>()?, scram::ITERATIONS));
    if options.cram {
        warn("whoever reads the CRAM-MD5 context can log in with it, and find the password faster");
        record.cram = Some(Context::of(&password));
    }
    let fields = record.fields();
    let mut line = Secret::new(options.login);
    for field in &fields {
        line = Secret::new([&line[..], b"\t", field].concat());
    }
    let line = Secret::new([&line[..], b"\n"].concat());
    io::stdout().write_all(&line).and_then(|()| io::stdout().flush()).doing("write the record")
}

/// The same password twice: from the terminal without echo, or two lines of what is no terminal.
fn ask() -> Result<Secret> {
    let input = io::stdin().as_fd().try_clone_to_owned().doing("use descriptor 0")?;
    let input = File::from(input);
    let terminal = input.is_terminal();
    let echo = if terminal { Some(Silence::begin(&input)?) } else { None };
    let prompt = |text: &str| {
        if terminal {
            eprint!("{text}")
        }
    };
    prompt("Password: ");
    let first = read_line(&input);
    prompt("\nAgain: ");
    let second = first.and_then(|first| Ok((first, read_line(&input)?)));
    prompt("\n");
    drop(echo);
    let (first, second) = second?;
    if first != second {
        return Err(Error::permanent("the passwords differ"));
    }
    Ok(first)
}

/// One line, byte for byte: a buffered reader would keep copies.
fn read_line(mut input: &File) -> Result<Secret> {
    let mut line = vec![0; PASSWORD_MAX];
    let mut length: usize = 0;
    let result = loop {
        let mut byte = [0];
        if input.read(&mut byte).doing("read the password")? == 0 || byte == *b"\n" {
            break Ok(());
        }
        match line.get_mut(length) {
            _ if byte[0].is_ascii_control() => {
                break Err(Error::permanent("the password holds a control character"));
            }
            Some(place) => *place = byte[0],
            None => {
                break Err(Error::permanent(format!(
                    "a password has at most {PASSWORD_MAX} bytes"
                )));
            }
        }
        length = length.saturating_add(1);
    };
    let password = Secret::from(line.get(..length).unwrap_or_default());
    line.zeroize();
    result?;
    if password.is_empty() {
        return Err(Error::permanent("the password is empty"));
    }
    Ok(password)
}

/// A terminal that shows nothing and sends no signals, so that it is always set back.
struct Silence<'a> {
    terminal: &'a File,
    before: termios::Termios,
}

impl<'a> Silence<'a> {
    fn begin(terminal: &'a File) -> Result<Self> {
        let before = termios::tcgetattr(terminal).doing("ask the terminal")?;
        let mut quiet = before.clone();
        quiet.local_flags.remove(LocalFlags::ECHO | LocalFlags::ISIG);
        termios::tcsetattr(terminal, SetArg::TCSAFLUSH, &quiet).doing("switch the echo off")?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Silence<'_> {
    fn drop(&mut self) {
        // A terminal that is gone needs no echo.
        termios::tcsetattr(self.terminal, SetArg::TCSANOW, &self.before).ok();
    }
}

/// What the command line says.
struct Options {
    cram: bool,
    login: Vec<u8>,
    record: Record,
}

impl Options {
    fn parse() -> Result<Self> {
        let mut cram = false;
        let mut words = Vec::new();
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next().map_err(|error| usage(&error.to_string()))? {
            match argument {
                lexopt::Arg::Short('c') => cram = true,
                lexopt::Arg::Value(word) => {
                    words.push(word.into_string().map_err(|_| usage("not UTF-8"))?);
                }
                other => return Err(usage(&other.unexpected().to_string())),
            }
        }
        let (login, fields) = words.split_first().ok_or_else(|| usage("no login"))?;
        let login = lower_domain(login.as_bytes());
        if !is_login(&login) {
            return Err(usage("not a login"));
        }
        let record = Record::parse_fields(fields.iter().map(String::as_str));
        let record = record.map_err(|damaged| usage(&damaged.0))?;
        if record.password.is_some() || record.scram.is_some() || record.cram.is_some() {
            return Err(usage("no secrets on the command line"));
        }
        Ok(Self { cram, login, record })
    }
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    plumb::random::fill(&mut bytes).doing("get random bytes")?;
    Ok(bytes)
}

fn warn(what: &str) {
    eprintln!("authpass: warning: {what}");
}

fn usage(what: &str) -> Error {
    Error::permanent(format!("{what}; usage: authpass [-c] login [field=value ...]"))
}
