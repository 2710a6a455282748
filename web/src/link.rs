//! Addresses inside the dashboard.

/// Where to go after signing in: a page of this dashboard, whatever was asked for. An address that a
/// browser could take for another server's is not followed.
pub fn own(next: Option<&str>) -> &str {
    match next {
        Some(next) if is_own(next) => next,
        _ => "/",
    }
}

fn is_own(next: &str) -> bool {
    let path = next.split(['?', '#']).next();
    // These are parts of pages.
    if matches!(path, Some("/live" | "/wizard/ranges")) {
        return false;
    }
    let mut letters = next.bytes();
    letters.next() == Some(b'/')
        && !matches!(letters.next(), Some(b'/' | b'\\'))
        && next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_this_dashboard_are_gone_to() {
        assert_eq!(own(Some("/ports?name=a%20b")), "/ports?name=a%20b");
        for other in ["//evil.example", "/\\evil.example", "https://evil.example", "", "ports", "/a\r\nX: y", "/\t/e"] {
            assert_eq!(own(Some(other)), "/", "{other}");
        }
        assert_eq!(own(None), "/");
        for part in ["/live", "/live?of=%2Fports&once=1", "/live#x", "/wizard/ranges?cidr=10.0.0.0/8"] {
            assert_eq!(own(Some(part)), "/", "{part}");
        }
        assert_eq!(own(Some("/wizard")), "/wizard");
    }
}
