//! As much of HTTP/1.1 as a sink on loopback needs: messages with a length or in chunks, bounded, connections that are kept.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

/// Bytes of a message's head at most.
const HEAD_BYTES_MAX: u64 = 64 << 10;
/// Bytes of a body at most, as it is sent and decompressed.
pub(crate) const BODY_BYTES_MAX: u64 = 16 << 20;
/// How long a peer may be silent.
const SILENCE: Duration = Duration::from_secs(10);

/// A message: its first line, its headers by lower-case names, its body.
#[derive(Debug, Default)]
pub(crate) struct Message {
    pub(crate) start: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Message {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Reads a message; `None` when the peer has closed. `head_only`: what follows the head is not looked at.
pub(crate) fn read(stream: &mut impl BufRead, head_only: bool) -> io::Result<Option<Message>> {
    let mut message = Message::default();
    let mut left = HEAD_BYTES_MAX;
    loop {
        let mut line = String::new();
        let read = stream.by_ref().take(left).read_line(&mut line)?;
        left -= read as u64;
        if read == 0 || !line.ends_with('\n') {
            return if message.start.is_empty() && read == 0 { Ok(None) } else { Err(wrong("its head")) };
        }
        let line = line.trim_end();
        match line.split_once(':') {
            _ if message.start.is_empty() => message.start = line.to_owned(),
            _ if line.is_empty() => break,
            Some((name, value)) => {
                message.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
            }
            None => return Err(wrong("a header")),
        }
    }
    if head_only {
        return Ok(Some(message));
    }
    if message.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        message.body = chunks(stream)?;
    } else {
        let length = message.header("content-length").map_or(Ok(0), str::parse::<u64>);
        let length =
            length.ok().filter(|length| *length <= BODY_BYTES_MAX).ok_or_else(|| wrong("its length"))?;
        stream.by_ref().take(length).read_to_end(&mut message.body)?;
        if message.body.len() as u64 != length {
            return Err(wrong("its body, which ends early"));
        }
    }
    Ok(Some(message))
}

fn chunks(stream: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        stream.by_ref().take(1024).read_line(&mut line)?;
        let size = line.trim().split(';').next().unwrap_or_default();
        let size = u64::from_str_radix(size, 16).map_err(|_| wrong("a chunk's size"))?;
        if body.len() as u64 + size > BODY_BYTES_MAX {
            return Err(wrong("its length"));
        }
        let before = body.len() as u64;
        stream.by_ref().take(size).read_to_end(&mut body)?;
        if body.len() as u64 - before != size {
            return Err(wrong("a chunk, which ends early"));
        }
        let mut end = String::new();
        stream.by_ref().take(1024).read_line(&mut end)?;
        if size == 0 {
            return Ok(body);
        }
    }
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what} is not as HTTP/1.1 has it"))
}

/// A connection to a port of this machine.
pub(crate) fn connect(port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(SILENCE))?;
    stream.set_write_timeout(Some(SILENCE))?;
    Ok(stream)
}

/// Sends a request without a body, on a connection of its own. The answer's status.
pub(crate) fn get(mut stream: impl Read + Write, path: &str, headers: &[(&str, &str)]) -> io::Result<u16> {
    let mut text = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{text}\r\n").as_bytes())?;
    let answer =
        read(&mut BufReader::new(stream), true)?.ok_or_else(|| wrong("the answer, which is nothing,"))?;
    let status = answer.start.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.ok_or_else(|| wrong("the status"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_or_refused() {
        let cases: &[(&str, Option<&str>)] = &[
            ("POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", Some("abc")),
            (
                "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x\r\nc\r\n0\r\n\r\n",
                Some("abc"),
            ),
            ("POST /a HTTP/1.1\r\n\r\n", Some("")),
            ("POST /a HTTP/1.1\r\nContent-Length: 4\r\n\r\nabc", None),
            ("POST /a HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", None),
            ("POST /a HTTP/1.1\r\nContent-Length: x\r\n\r\n", None),
            ("POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffff\r\n", None),
            ("POST /a HTTP/1.1\r\nnonsense\r\n\r\n", None),
            ("POST /a HTTP", None),
        ];
        for (text, body) in cases {
            let message = read(&mut text.as_bytes(), false);
            let found = message.ok().flatten().map(|message| String::from_utf8(message.body).unwrap());
            assert_eq!(found.as_deref(), *body, "{text:?}");
        }
        assert!(read(&mut &b""[..], false).unwrap().is_none());
        let long = format!("POST /a HTTP/1.1\r\na: {}\r\n\r\n", "x".repeat(HEAD_BYTES_MAX as usize));
        assert!(read(&mut long.as_bytes(), false).is_err());
    }
}
