//! Files as chunks of whole lines: compression by magic bytes, long lines passed over without holding them.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of lines in a chunk, about.
const CHUNK_BYTES: usize = 1 << 20;
/// Bytes read at once.
const BUFFER_BYTES: usize = 256 << 10;

/// Some consecutive lines of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chunk {
    /// Lines, each with its newline. A line that was passed over is empty.
    pub text: Vec<u8>,
    /// Number of the first line, from 1.
    pub first_line: u64,
    /// Lines.
    pub lines: usize,
    /// Numbers of the lines that were passed over because they are too long.
    pub too_long: Vec<u64>,
}

/// Reads chunks. Where chunks end depends only on the text, so that importing a file again sends the same batches.
pub struct Lines<R> {
    input: R,
    line: u64,
    line_bytes_max: usize,
    lines_max: usize,
}

/// A file, decompressed.
pub type Input = BufReader<Box<dyn Read + Send>>;

/// Opens a file, or standard input for `-`. `read` counts the bytes of the file as they are read.
///
/// # Errors
/// Those of the system; also when the start of a compressed stream is broken.
pub fn open(path: &Path, read: &Arc<AtomicU64>) -> io::Result<Input> {
    let file: Box<dyn Read + Send> =
        if path.as_os_str() == "-" { Box::new(io::stdin()) } else { Box::new(File::open(path)?) };
    decompress(Box::new(Counted { input: file, read: Arc::clone(read) }))
}

/// Gzip and zstd by their magic bytes; anything else as it is.
fn decompress(mut input: Box<dyn Read + Send>) -> io::Result<Input> {
    let mut magic = Vec::new();
    input.by_ref().take(4).read_to_end(&mut magic)?;
    let whole: Chain<Cursor<Vec<u8>>, _> = Cursor::new(magic.clone()).chain(input);
    let plain: Box<dyn Read + Send> = match magic.as_slice() {
        [0x1f, 0x8b, ..] => Box::new(flate2::read::MultiGzDecoder::new(BufReader::new(whole))),
        [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd::stream::read::Decoder::new(whole)?),
        _ => Box::new(whole),
    };
    Ok(BufReader::with_capacity(BUFFER_BYTES, plain))
}

struct Counted<R> {
    input: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let bytes = self.input.read(out)?;
        self.read.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(bytes)
    }
}

impl<R: BufRead> Lines<R> {
    /// Chunks of at most `lines_max` lines; lines of more than `line_bytes_max` bytes are passed over.
    pub fn new(input: R, line_bytes_max: usize, lines_max: usize) -> Self {
        Self { input, line: 1, line_bytes_max, lines_max: lines_max.max(1) }
    }

    /// The next chunk; `None` at the end.
    ///
    /// # Errors
    /// Those of the input.
    pub fn next_chunk(&mut self) -> io::Result<Option<Chunk>> {
        let mut chunk = Chunk { first_line: self.line, ..Chunk::default() };
        while chunk.text.len() < CHUNK_BYTES && chunk.lines < self.lines_max && self.line_into(&mut chunk)? {}
        Ok((chunk.lines > 0).then_some(chunk))
    }

    /// Appends one line. Whether there was one.
    fn line_into(&mut self, chunk: &mut Chunk) -> io::Result<bool> {
        let start = chunk.text.len();
        let (mut any, mut ended, mut too_long) = (false, false, false);
        while !ended {
            let buffer = match self.input.fill_buf() {
                Ok(buffer) => buffer,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if buffer.is_empty() {
                break;
            }
            any = true;
            let newline = memchr::memchr(b'\n', buffer);
            let part = buffer.get(..newline.unwrap_or(buffer.len())).unwrap_or_default();
            too_long |= chunk.text.len() - start + part.len() > self.line_bytes_max;
            if too_long {
                chunk.text.truncate(start);
            } else {
                chunk.text.extend_from_slice(part);
            }
            ended = newline.is_some();
            let used = part.len() + usize::from(ended);
            self.input.consume(used);
        }
        if any {
            chunk.text.push(b'\n');
            chunk.lines += 1;
            if too_long {
                chunk.too_long.push(self.line);
            }
            self.line += 1;
        }
        Ok(any)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn chunks(text: &str, bytes_max: usize, lines_max: usize, buffer: usize) -> Vec<Chunk> {
        let mut lines = Lines::new(BufReader::with_capacity(buffer, text.as_bytes()), bytes_max, lines_max);
        std::iter::from_fn(|| lines.next_chunk().unwrap()).collect()
    }

    #[test]
    fn lines_come_whole_and_long_ones_are_passed_over() {
        for buffer in [1, 3, 4096] {
            let chunk = |text: &str, first_line, lines, too_long: &[u64]| Chunk {
                text: text.as_bytes().to_vec(),
                first_line,
                lines,
                too_long: too_long.to_vec(),
            };
            let want = [chunk("a\nbb\n", 1, 2, &[]), chunk("\n\n", 3, 2, &[3]), chunk("d\n", 5, 1, &[])];
            assert_eq!(chunks("a\nbb\ncccccc\n\nd", 5, 2, buffer), want, "{buffer}");
            assert_eq!(chunks("", 5, 2, buffer), []);
            assert_eq!(chunks("123456", 5, 9, buffer), [chunk("\n", 1, 1, &[1])]);
            assert_eq!(chunks("12345\n", 5, 9, buffer), [chunk("12345\n", 1, 1, &[])]);
        }
    }

    #[test]
    fn compression_is_seen_by_its_magic_bytes() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"hello\n").unwrap();
        let member = gzip.finish().unwrap();
        let two = [member.clone(), member].concat();
        for (bytes, want) in [
            (b"hello\n".to_vec(), "hello\n"),
            (b"h".to_vec(), "h"),
            (Vec::new(), ""),
            (two, "hello\nhello\n"),
            (zstd::encode_all(&b"hello\n"[..], 1).unwrap(), "hello\n"),
        ] {
            let mut text = String::new();
            decompress(Box::new(Cursor::new(bytes))).unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, want);
        }
    }
}
