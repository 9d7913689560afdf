//! Makes another process try a system call, as code injected into it would (root, x86-64).

use libc::user_regs_struct as Registers;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::until;

/// How the attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The kernel ended the process with this signal.
    Killed(Signal),
    /// The call came back with this value (negative: an errno).
    Returned(i64),
}

/// The length of the `syscall` instruction.
const INSTRUCTION: u64 = 2;

/// What an interrupted system call has in rax: -ERESTART_RESTARTBLOCK to -ERESTARTSYS, known to the kernel and its tracers only.
const INTERRUPTED: std::ops::RangeInclusive<i64> = -516..=-512;

/// Waits until the process `pid` waits inside a system call and makes it call `number` with `args` instead; if it lives on, it then
/// waits again as before.
pub fn syscall(pid: i32, number: i64, args: [u64; 3]) -> Outcome {
    let pid = Pid::from_raw(pid);
    let waiting = until("a process that waits", || attach(pid));
    // Otherwise the kernel restarts the interrupted call.
    let mut registers = Registers { orig_rax: u64::MAX, ..waiting };
    registers.rip -= INSTRUCTION;
    registers.rax = number as u64;
    [registers.rdi, registers.rsi, registers.rdx] = args;
    ptrace::setregs(pid, registers).expect("set registers");
    let outcome = match step(pid) {
        WaitStatus::PtraceSyscall(_) => step(pid),
        other => other,
    };
    match outcome {
        WaitStatus::PtraceSyscall(_) => {
            let result = ptrace::getregs(pid).expect("get registers").rax as i64;
            let rip = waiting.rip - INSTRUCTION;
            let again = Registers { rip, rax: waiting.orig_rax, ..waiting };
            ptrace::setregs(pid, again).expect("set registers");
            ptrace::detach(pid, None).expect("detach");
            Outcome::Returned(result)
        }
        WaitStatus::Stopped(_, signal) => {
            ptrace::detach(pid, signal).expect("detach");
            Outcome::Killed(signal)
        }
        WaitStatus::Signaled(_, signal, _) => Outcome::Killed(signal),
        other => panic!("{pid}: {other:?}"),
    }
}

/// Stops the process; lets it go again if that did not interrupt a system call.
fn attach(pid: Pid) -> Option<Registers> {
    ptrace::attach(pid).expect("attach");
    waitpid(pid, None).expect("wait for the stop");
    ptrace::setoptions(pid, Options::PTRACE_O_TRACESYSGOOD).expect("set options");
    let registers = ptrace::getregs(pid).expect("get registers");
    if INTERRUPTED.contains(&(registers.rax as i64)) {
        return Some(registers);
    }
    ptrace::detach(pid, None).expect("detach");
    None
}

fn step(pid: Pid) -> WaitStatus {
    ptrace::syscall(pid, None).expect("go on");
    waitpid(pid, None).expect("wait for the system call")
}
