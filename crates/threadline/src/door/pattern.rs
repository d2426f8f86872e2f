//! Names with `*` in them, as people allow services and certificates by.

/// Bytes of a pattern.
pub const PATTERN_BYTES_MAX: usize = 256;

/// Whether a name fits a pattern, in which `*` stands for any text. Upper and lower case differ.
pub fn fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = rest.get(at + part.len()..).unwrap_or_default();
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, name, want) in [
            ("shop", "shop", true),
            ("shop", "shop2", false),
            ("shop-*", "shop-cart", true),
            ("shop-*", "shop", false),
            ("*", "", true),
            ("*", "anything", true),
            ("*.example", "a.example", true),
            ("*.example", "a.example.org", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c", false),
            ("ab*ba", "aba", false),
            ("**", "x", true),
            ("", "", true),
            ("", "x", false),
            ("spiffe://acme/*/cart", "spiffe://acme/ns/prod/cart", true),
        ] {
            assert_eq!(fits(pattern, name), want, "{pattern} {name}");
        }
    }
}
