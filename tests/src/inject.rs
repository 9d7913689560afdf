//! Makes another process try system calls, as code injected into it would (root, x86-64).

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

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

/// A process that has been stopped while it waited inside a system call; it waits on when this is dropped.
#[derive(Debug)]
pub struct Captive {
    pid: Pid,
    waiting: Registers,
    alive: bool,
}

/// Waits until the process `pid` waits inside a system call and makes it call `number` with `args` instead.
pub fn syscall(pid: i32, number: i64, args: [u64; 3]) -> Outcome {
    Captive::take(pid).call(number, args)
}

impl Captive {
    /// Stops the process `pid` as soon as it waits inside a system call.
    pub fn take(pid: i32) -> Captive {
        let pid = Pid::from_raw(pid);
        let waiting = until("a process that waits", || attach(pid));
        Captive { pid, waiting, alive: true }
    }

    /// Makes it call `number` with `args`.
    pub fn call(&mut self, number: i64, args: [u64; 3]) -> Outcome {
        assert!(self.alive, "{} is dead", self.pid);
        // Otherwise the kernel restarts the interrupted call.
        let mut registers = Registers { orig_rax: u64::MAX, ..self.waiting };
        registers.rip -= INSTRUCTION;
        registers.rax = number as u64;
        [registers.rdi, registers.rsi, registers.rdx] = args;
        ptrace::setregs(self.pid, registers).expect("set registers");
        let mut outcome = self.step();
        if matches!(outcome, WaitStatus::PtraceSyscall(_)) {
            outcome = self.step();
        }
        // A call that seccomp(2) forbids comes back, too, before its signal strikes.
        if matches!(outcome, WaitStatus::PtraceSyscall(_)) && self.is_doomed() {
            outcome = self.step();
        }
        match outcome {
            WaitStatus::PtraceSyscall(_) => {
                let registers = ptrace::getregs(self.pid).expect("get registers");
                Outcome::Returned(registers.rax as i64)
            }
            WaitStatus::Stopped(_, signal) => {
                self.alive = false;
                ptrace::detach(self.pid, signal).expect("detach");
                Outcome::Killed(signal)
            }
            WaitStatus::Signaled(_, signal, _) => {
                self.alive = false;
                Outcome::Killed(signal)
            }
            other => panic!("{}: {other:?}", self.pid),
        }
    }

    /// Makes it write these bytes to its descriptor `fd`.
    pub fn write(&mut self, fd: u32, bytes: &[u8]) -> Outcome {
        let (memory, scratch) = self.scratch();
        memory.write_all_at(bytes, scratch).expect("write to its memory");
        self.call(libc::SYS_write, [fd.into(), scratch, bytes.len() as u64])
    }

    /// Makes it read from its descriptor `fd`.
    pub fn read(&mut self, fd: u32) -> Vec<u8> {
        let (memory, scratch) = self.scratch();
        match self.call(libc::SYS_read, [fd.into(), scratch, SCRATCH]) {
            Outcome::Returned(length @ 0..) => {
                let mut bytes = vec![0; length as usize];
                memory.read_exact_at(&mut bytes, scratch).expect("read its memory");
                bytes
            }
            other => panic!("{}: read: {other:?}", self.pid),
        }
    }

    /// Its memory, and the lowest address of its stack, far below all frames.
    fn scratch(&self) -> (File, u64) {
        let proc = format!("/proc/{}", self.pid);
        let maps = fs::read_to_string(format!("{proc}/maps")).expect("its maps");
        let stack = maps.lines().find(|line| line.ends_with("[stack]")).expect("a stack");
        let start = stack.split('-').next().expect("an address");
        let memory = File::options().read(true).write(true).open(format!("{proc}/mem"));
        let start = u64::from_str_radix(start, 16).expect("an address");
        (memory.expect("its memory"), start)
    }

    /// Whether SIGSYS waits for it.
    fn is_doomed(&self) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).expect("its status");
        let pending = status.lines().find_map(|line| line.strip_prefix("SigPnd:\t"));
        let pending = u64::from_str_radix(pending.expect("signals"), 16).expect("a mask");
        pending & 1 << (Signal::SIGSYS as u32 - 1) != 0
    }

    fn step(&self) -> WaitStatus {
        ptrace::syscall(self.pid, None).expect("go on");
        waitpid(self.pid, None).expect("wait for the system call")
    }
}

impl Drop for Captive {
    fn drop(&mut self) {
        if self.alive {
            let rip = self.waiting.rip - INSTRUCTION;
            let again = Registers { rip, rax: self.waiting.orig_rax, ..self.waiting };
            ptrace::setregs(self.pid, again).expect("set registers");
            ptrace::detach(self.pid, None).expect("detach");
        }
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

/// The length of the `syscall` instruction.
const INSTRUCTION: u64 = 2;

/// What an interrupted system call has in rax: -ERESTART_RESTARTBLOCK to -ERESTARTSYS, known to the kernel and its tracers only.
const INTERRUPTED: std::ops::RangeInclusive<i64> = -516..=-512;

/// As much as is read at a time: half of the smallest stack.
const SCRATCH: u64 = 64 * 1024;
