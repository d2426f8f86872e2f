//! Texts within limits, at the boundaries of characters.

/// What stands where something was left out.
const ELLIPSIS: char = '…';

/// At most so many characters; a text that has more ends with an ellipsis.
pub(crate) fn cut(text: &str, chars_max: usize) -> String {
    if text.chars().nth(chars_max).is_none() {
        return text.to_owned();
    }
    let mut out: String = text.chars().take(chars_max.saturating_sub(1)).collect();
    if chars_max > 0 {
        out.push(ELLIPSIS);
    }
    out
}

/// At most so many bytes of UTF-8; a text that has more ends with an ellipsis, where that has room.
pub(crate) fn cut_bytes(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let room = bytes_max.saturating_sub(ELLIPSIS.len_utf8());
    let mut out = text.get(..text.floor_char_boundary(room)).unwrap_or_default().to_owned();
    if bytes_max >= ELLIPSIS.len_utf8() {
        out.push(ELLIPSIS);
    }
    out
}

/// One line: whatever controls a terminal or a protocol is a blank.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn cuts_keep_the_limit_and_the_beginning(text in "\\PC{0,40}", max in 0_usize..50) {
            let (chars, bytes) = (cut(&text, max), cut_bytes(&text, max));
            proptest::prop_assert!(chars.chars().count() <= max && bytes.len() <= max);
            for short in [chars, bytes] {
                let kept = short.strip_suffix(ELLIPSIS).unwrap_or(&short);
                proptest::prop_assert!(text.starts_with(kept) || short == text);
                proptest::prop_assert!(short == text || text.len() > short.len() || text.chars().count() > max);
            }
        }
    }
}
