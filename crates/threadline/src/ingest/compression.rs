//! Undoes `Content-Encoding` and `grpc-encoding` with a bound on what comes out: a few kilobytes may claim to be
//! gigabytes, so output is taken piece by piece and given up at the limit.

use std::io::{self, Read};

use bytes::Bytes;

use super::budget::Lease;

/// How a request's bytes are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// Not at all.
    Identity,
    /// RFC 1952; several members in a row are one text.
    Gzip,
    /// RFC 8878; several frames in a row are one text.
    Zstd,
}

impl Encoding {
    /// What a client may send, for `Accept-Encoding` and `grpc-accept-encoding`.
    pub(crate) const ACCEPTED: &'static str = "gzip, zstd, identity";

    /// The encoding of this name, in any case; `None` when it is not taken.
    pub(crate) fn parse(name: &str) -> Option<Encoding> {
        match name.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Some(Encoding::Identity),
            "gzip" | "x-gzip" => Some(Encoding::Gzip),
            "zstd" => Some(Encoding::Zstd),
            _ => None,
        }
    }

    /// How many bytes a request may have before decompression: as many as after it, and what a compression adds to
    /// bytes that it cannot shorten.
    pub(crate) fn received_bytes_max(self, bytes_max: usize) -> usize {
        match self {
            Encoding::Identity => bytes_max,
            Encoding::Gzip | Encoding::Zstd => bytes_max + bytes_max / 128 + 1024,
        }
    }
}

/// Why bytes were not decompressed.
#[derive(Debug)]
pub(crate) enum DecompressError {
    /// More than the limit comes out.
    TooLarge,
    /// All requests in progress hold more than the hub gives them.
    Busy,
    /// The bytes are not what the encoding says.
    Broken(io::Error),
}

/// Output is asked for and accounted for in pieces of this size.
const PIECE_BYTES: usize = 256 << 10;

/// Zstandard windows are at most this large (8 MiB, the size every decoder takes by RFC 8878).
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// The bytes that `body` stands for, at most `bytes_max`; what they need is taken from the lease.
pub(crate) fn decompress(
    encoding: Encoding,
    body: Bytes,
    bytes_max: usize,
    lease: &mut Lease,
) -> Result<Bytes, DecompressError> {
    match encoding {
        Encoding::Identity if body.len() > bytes_max => Err(DecompressError::TooLarge),
        Encoding::Identity => Ok(body),
        Encoding::Gzip => read_all(flate2::bufread::MultiGzDecoder::new(&body[..]), bytes_max, lease),
        Encoding::Zstd => {
            let mut decoder =
                zstd::stream::read::Decoder::with_buffer(&body[..]).map_err(DecompressError::Broken)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(DecompressError::Broken)?;
            read_all(decoder, bytes_max, lease)
        }
    }
}

fn read_all(mut reader: impl Read, bytes_max: usize, lease: &mut Lease) -> Result<Bytes, DecompressError> {
    let mut out = Vec::new();
    loop {
        // One byte more than allowed tells "at the limit" from "beyond it".
        let wanted = PIECE_BYTES.min(bytes_max + 1 - out.len());
        if !lease.grow(wanted) {
            return Err(DecompressError::Busy);
        }
        let n = reader.by_ref().take(wanted as u64).read_to_end(&mut out).map_err(DecompressError::Broken)?;
        if out.len() > bytes_max {
            return Err(DecompressError::TooLarge);
        }
        if n < wanted {
            return Ok(out.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::super::budget::Budget;
    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::encode_all(bytes, 1).unwrap()
    }

    fn run(encoding: Encoding, body: Vec<u8>, max: usize, budget: usize) -> Result<Vec<u8>, String> {
        let mut lease = Budget::new(budget).lease();
        decompress(encoding, body.into(), max, &mut lease).map(Vec::from).map_err(|error| match error {
            DecompressError::TooLarge => "too large".to_owned(),
            DecompressError::Busy => "busy".to_owned(),
            DecompressError::Broken(_) => "broken".to_owned(),
        })
    }

    #[test]
    fn the_limit_is_on_what_comes_out() {
        let text = b"a line of a log\n".repeat(40_000);
        let len = text.len();
        let cut = |mut bytes: Vec<u8>| {
            bytes.truncate(bytes.len() / 2);
            bytes
        };
        let twice = |bytes: Vec<u8>| [bytes.clone(), bytes].concat();
        use Encoding::*;
        for (name, encoding, body, max, budget, want) in [
            ("plain", Identity, text.clone(), len, 0, Ok(len)),
            ("plain, one too many", Identity, text.clone(), len - 1, 0, Err("too large")),
            ("gzip", Gzip, gzip(&text), len, 4 << 20, Ok(len)),
            ("gzip, one too many", Gzip, gzip(&text), len - 1, 4 << 20, Err("too large")),
            ("gzip, two members", Gzip, twice(gzip(&text)), 2 * len, 4 << 20, Ok(2 * len)),
            ("gzip, nothing", Gzip, gzip(b""), len, 4 << 20, Ok(0)),
            ("gzip, cut", Gzip, cut(gzip(&text)), len, 4 << 20, Err("broken")),
            ("gzip, none at all", Gzip, b"{}".to_vec(), len, 4 << 20, Err("broken")),
            ("gzip, no budget", Gzip, gzip(&text), len, 300 << 10, Err("busy")),
            ("zstd", Zstd, zstd(&text), len, 4 << 20, Ok(len)),
            ("zstd, one too many", Zstd, zstd(&text), len - 1, 4 << 20, Err("too large")),
            ("zstd, two frames", Zstd, twice(zstd(&text)), 2 * len, 4 << 20, Ok(2 * len)),
            ("zstd, cut", Zstd, cut(zstd(&text)), len, 4 << 20, Err("broken")),
            ("zstd, none at all", Zstd, b"{}".to_vec(), len, 4 << 20, Err("broken")),
        ] {
            let got = run(encoding, body, max, budget).map(|out| out.len());
            assert_eq!(got, want.map_err(str::to_owned), "{name}");
        }
    }
}
