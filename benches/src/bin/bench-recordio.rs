//! How fast one long message passes a recorder: recordio-tls beside Debian's recordio and a bare cat, in one run.
//!
//! `cargo run --release -p benches --bin bench-recordio [MEGABYTES [ROUNDS]]`, with the release recordio-tls built before
//! (`CHAINMAIL_BIN` names another folder). The client, the sink and the hops share the machine, so only ratios count.

use std::env;
use std::error::Error;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if arguments.first().is_some_and(|word| word == "sink") {
        return sink();
    }
    let number = |place: usize, default: usize| match arguments.get(place) {
        Some(text) => text.parse(),
        None => Ok(default),
    };
    measure(number(0, 200)?.saturating_mul(1_000_000), number(1, 5)?)
}

/// One way from the client to the sink.
struct Way {
    name: &'static str,
    argv: Vec<String>,
    speeds: Vec<f64>,
}

fn measure(bytes: usize, rounds: usize) -> Outcome<()> {
    let message = message(bytes);
    let mut ways = ways()?;
    for _ in 0..rounds {
        for way in &mut ways {
            way.speeds.push(deliver(&way.argv, &message)?);
        }
    }
    let median = |name: &str| {
        let way = ways.iter().find(|way| way.name == name);
        way.map_or(f64::NAN, |way| middle(&way.speeds))
    };
    println!("{bytes} bytes in lines of 78, {rounds} rounds, the log on /dev/null\n");
    println!("{:<34}{:>8}{:>8}{:>8}", "MB/s", "lowest", "median", "highest");
    for way in &ways {
        let (low, high) = way
            .speeds
            .iter()
            .fold((f64::MAX, 0.0), |(low, high): (f64, f64), &s| (low.min(s), high.max(s)));
        println!("{:<34}{low:>8.0}{:>8.0}{high:>8.0}", way.name, middle(&way.speeds));
    }
    println!();
    ratio("every line logged / recordio", median(FULL) / median(RECORDIO), 4.0);
    ratio("bodies elided / one cat", median(ELIDED) / median(CAT), 0.5);
    Ok(())
}

fn ratio(what: &str, ratio: f64, goal: f64) {
    let verdict = if ratio >= goal { "reached" } else { "MISSED" };
    println!("{what}: {ratio:.2} (goal {goal}: {verdict})");
}

fn ways() -> Outcome<Vec<Way>> {
    let sink = [env::current_exe()?.display().to_string(), "sink".to_owned()];
    let recorder = programs()?.join("recordio-tls").display().to_string();
    let way = |name, before: &[&str]| {
        let before = before.iter().map(|&word| word.to_owned());
        Way { name, argv: before.chain(sink.clone()).collect(), speeds: Vec::new() }
    };
    Ok(vec![
        way("nothing between", &[]),
        way(CAT, &["sh", "-c", "cat | \"$0\" \"$@\""]),
        way(RECORDIO, &["recordio"]),
        way(FULL, &[&recorder, "-B"]),
        way("recordio-tls -c -B", &[&recorder, "-c", "-B"]),
        way(ELIDED, &[&recorder]),
    ])
}

/// Where the release programs are: beside this one, unless CHAINMAIL_BIN says otherwise.
fn programs() -> Outcome<PathBuf> {
    match env::var_os("CHAINMAIL_BIN") {
        Some(folder) => Ok(folder.into()),
        None => Ok(env::current_exe()?.parent().map(Path::to_path_buf).unwrap_or_default()),
    }
}

/// Sends one message to a chain that is started for it as a UCSPI server would start it; megabytes a second.
fn deliver(argv: &[String], message: &[u8]) -> Outcome<f64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    client.set_nodelay(true)?;
    let (served, _) = listener.accept()?;
    served.set_nodelay(true)?;
    let (program, arguments) = argv.split_first().ok_or("no program")?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(OwnedFd::from(served.try_clone()?))
        .stdout(OwnedFd::from(served))
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("{program}: {error}"))?;
    let mut replies = BufReader::new(client.try_clone()?);
    expect(&mut replies, "220")?;
    client.write_all(b"DATA\r\n")?;
    expect(&mut replies, "354")?;
    let begin = Instant::now();
    for block in message.chunks(BLOCK) {
        client.write_all(block)?;
    }
    expect(&mut replies, "250")?;
    let seconds = begin.elapsed().as_secs_f64();
    client.write_all(b"QUIT\r\n")?;
    expect(&mut replies, "221")?;
    drop((client, replies));
    child.wait()?;
    let bytes: u32 = message.len().try_into()?;
    Ok(f64::from(bytes) / seconds / 1e6)
}

fn expect(replies: &mut impl BufRead, code: &str) -> Outcome<()> {
    let mut line = String::new();
    replies.read_line(&mut line)?;
    if line.starts_with(code) { Ok(()) } else { Err(format!("{line:?} and not {code}").into()) }
}

/// A body of lines of 78 bytes, CRLF included, and its end.
fn message(bytes: usize) -> Vec<u8> {
    let line = format!("{:x<76}\r\n", "The quick brown fox jumps over the lazy dog. ");
    let mut message = line.as_bytes().repeat(bytes.checked_div(line.len()).unwrap_or(0));
    message.extend_from_slice(END);
    message
}

/// The end of every chain: takes one message as fast as it comes.
fn sink() -> Outcome<()> {
    let mut input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut output = io::stdout();
    let mut say = |line: &[u8]| output.write_all(line).and_then(|()| output.flush());
    say(b"220 sink\r\n")?;
    let mut block = vec![0; BLOCK];
    let mut last = Vec::new();
    loop {
        let count = input.read(&mut block)?;
        let part = block.get(..count).unwrap_or_default();
        if part.is_empty() {
            return Ok(());
        }
        last.extend_from_slice(part.get(count.saturating_sub(END.len())..).unwrap_or(part));
        last.drain(..last.len().saturating_sub(END.len()));
        if last.ends_with(END) {
            say(b"250 taken\r\n")?;
        } else if last.ends_with(b"ATA\r\n") {
            say(b"354 go\r\n")?;
        } else if last.ends_with(b"UIT\r\n") {
            return Ok(say(b"221 bye\r\n")?);
        }
    }
}

fn middle(speeds: &[f64]) -> f64 {
    let mut sorted = speeds.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().checked_div(2).unwrap_or(0)).copied().unwrap_or(f64::NAN)
}

const CAT: &str = "one cat";
const RECORDIO: &str = "recordio";
const FULL: &str = "recordio-tls -B (every line)";
const ELIDED: &str = "recordio-tls (bodies elided)";

const END: &[u8] = b"\r\n.\r\n";
const BLOCK: usize = 64 * 1024;
