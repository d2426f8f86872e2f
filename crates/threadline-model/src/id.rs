//! Trace and span identifiers (W3C Trace Context; OTLP 1.11 `trace_id`, `span_id`).

use std::fmt;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Bytes as lower-case hex digits.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    push_hex(bytes, &mut text);
    text
}

/// [`hex`], appended to a text.
pub fn push_hex(bytes: &[u8], text: &mut String) {
    text.extend(
        bytes.iter().flat_map(|byte| {
            [char::from(HEX[usize::from(byte >> 4)]), char::from(HEX[usize::from(byte & 15)])]
        }),
    );
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// From exactly [`Self::LEN`] bytes that are not all zero; `None` otherwise.
            pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
                let id: [u8; $len] = bytes.try_into().ok()?;
                id.iter().any(|&b| b != 0).then_some(Self(id))
            }

            /// From hex digits of any case; `None` when the length is wrong, a digit is none, or all are zero.
            pub fn from_hex(text: &str) -> Option<Self> {
                let digits: &[u8; 2 * $len] = text.as_bytes().try_into().ok()?;
                // Without an early end, so that all digits are looked at together.
                let mut halves = [0u8; 2 * $len];
                let mut good = true;
                for (half, char) in halves.iter_mut().zip(digits) {
                    let digit = char.wrapping_sub(b'0');
                    let letter = (char | 0x20).wrapping_sub(b'a');
                    *half = if digit < 10 { digit } else { letter.wrapping_add(10) };
                    good &= (digit < 10) | (letter < 6);
                }
                let mut id = [0u8; $len];
                for (byte, [high, low]) in id.iter_mut().zip(halves.as_chunks::<2>().0) {
                    *byte = high << 4 | low;
                }
                if !good {
                    return None;
                }
                Self::from_bytes(&id)
            }

            /// Lower-case hex digits.
            pub fn hex(&self) -> [u8; 2 * $len] {
                let mut out = [0u8; 2 * $len];
                for (pair, byte) in out.chunks_exact_mut(2).zip(self.0) {
                    if let [high, low] = pair {
                        *high = HEX[usize::from(byte >> 4)];
                        *low = HEX[usize::from(byte & 15)];
                    }
                }
                out
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(std::str::from_utf8(&self.hex()).unwrap_or_default())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

id!(
    /// A trace id: 16 bytes, not all zero.
    TraceId,
    16
);
id!(
    /// A span id: 8 bytes, not all zero.
    SpanId,
    8
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_of_any_case_round_trips_lower_case() {
        for (text, want) in [
            ("4BF92F3577B34DA6A3CE929D0E0E4736", Some("4bf92f3577b34da6a3ce929d0e0e4736")),
            ("4bf92f3577b34da6a3ce929d0e0e4736", Some("4bf92f3577b34da6a3ce929d0e0e4736")),
            ("00000000000000000000000000000000", None),
            ("4bf92f3577b34da6a3ce929d0e0e473", None),
            ("4bf92f3577b34da6a3ce929d0e0e47361", None),
            ("4bf92f3577b34da6a3ce929d0e0e473g", None),
            ("", None),
        ] {
            assert_eq!(TraceId::from_hex(text).map(|id| id.to_string()).as_deref(), want, "{text}");
        }
        assert_eq!(
            SpanId::from_hex("00F067aa0ba902b7").map(|id| id.to_string()).as_deref(),
            Some("00f067aa0ba902b7")
        );
    }
}
