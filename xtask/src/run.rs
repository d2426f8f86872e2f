//! Processes: running them with their output shown, captured or counted, each with a time-out.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::Result;

/// Runs a command with its output shown; an error if it fails.
pub(crate) fn show(command: &mut Command) -> Result<()> {
    let status = command.status().map_err(|error| cannot_start(command, &error))?;
    finished(command, status)
}

/// Runs a command and returns its standard output; an error, with what it wrote, if it fails.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| cannot_start(command, &error))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{} failed ({}): {}", line(command), output.status, said.trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a command, passes each line of its standard output on and to `each`, and ends it after `limit`.
/// The command's error output goes where ours goes.
pub(crate) fn watch(command: &mut Command, limit: Duration, each: &mut dyn FnMut(&str)) -> Result<()> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| cannot_start(command, &error))?;
    let lines = child.stdout.take().map(lines_of);
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match lines.as_ref().map(|lines| lines.recv_timeout(left)) {
            Some(Ok(text)) => {
                println!("{text}");
                each(&text);
            }
            Some(Err(std::sync::mpsc::RecvTimeoutError::Timeout)) => {
                stop(&mut child);
                return Err(format!("{} was ended after {} s", line(command), limit.as_secs()));
            }
            _ => break,
        }
    }
    let status = child.wait().map_err(|error| format!("{}: {error}", line(command)))?;
    finished(command, status)
}

/// The lines of a pipe, read on a thread of their own so that waiting for them can time out.
fn lines_of(pipe: impl Read + Send + 'static) -> std::sync::mpsc::Receiver<String> {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut reader = BufReader::new(pipe);
        let mut bytes = Vec::new();
        while reader.read_until(b'\n', &mut bytes).is_ok_and(|count| count > 0) {
            let text = String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']).to_owned();
            if sender.send(text).is_err() {
                break;
            }
            bytes.clear();
        }
    });
    receiver
}

/// Asks a process to end, and insists after ten seconds.
pub(crate) fn stop(child: &mut Child) {
    // A process can be asked by signal only through `kill` or unsafe code; the shell's is everywhere.
    let asked = Command::new("sh").args(["-c", &format!("kill -TERM {}", child.id())]).status();
    let deadline = Instant::now() + Duration::from_secs(10);
    while asked.as_ref().is_ok_and(ExitStatus::success) && Instant::now() < deadline {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    // Both fail only if it has ended meanwhile.
    let _ = child.kill();
    let _ = child.wait();
}

/// The command as one would type it.
pub(crate) fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<String> = words.map(|word| quoted(&word.to_string_lossy())).collect();
    words.join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+%@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

fn finished(command: &Command, status: ExitStatus) -> Result<()> {
    if status.success() { Ok(()) } else { Err(format!("{} failed ({status})", line(command))) }
}

fn cannot_start(command: &Command, error: &std::io::Error) -> String {
    format!("cannot start {}: {error}", command.get_program().to_string_lossy())
}
