//! Which store a URL names, and which keys a store takes.

use std::path::PathBuf;

use super::error::OpenError;

/// A store's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum StoreUrl {
    Folder(PathBuf),
    Memory,
    S3 {
        bucket: String,
        /// Without slashes at its ends; may be empty.
        prefix: String,
    },
}

impl StoreUrl {
    pub(super) fn parse(url: &str) -> Result<Self, OpenError> {
        let wrong = |reason: &str| {
            Err(OpenError(format!(
                "{url:?} is no store: {reason}; give s3://bucket/prefix, file:///folder or memory://"
            )))
        };
        let Some((scheme, rest)) = url.split_once("://") else {
            return wrong("it has no scheme");
        };
        match scheme {
            "memory" if rest.is_empty() => Ok(Self::Memory),
            "memory" => wrong("memory:// has no path"),
            "file" if rest.is_empty() => wrong("the folder is missing"),
            "file" => Ok(Self::Folder(PathBuf::from(rest))),
            "s3" => {
                let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
                let prefix = prefix.trim_matches('/');
                if bucket.is_empty() {
                    return wrong("the bucket's name is missing");
                }
                if !bucket
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b))
                {
                    return wrong("a bucket's name has letters, digits, dots and hyphens only");
                }
                if let Some(reason) = (!prefix.is_empty()).then(|| check_key(prefix)).flatten() {
                    return wrong(&format!("its prefix {reason}"));
                }
                Ok(Self::S3 {
                    bucket: bucket.to_owned(),
                    prefix: prefix.to_owned(),
                })
            }
            "gs" | "az" => wrong("this release does not have that store yet"),
            _ => wrong("the scheme is not known"),
        }
    }
}

/// A store's URL without the sickness that it is given for a test.
#[must_use]
pub fn plain_url(url: &str) -> &str {
    let rest = url.strip_prefix("sick:");
    let plain = rest.and_then(|rest| rest.split_once(':'));
    plain.map_or(url, |(_, plain)| plain)
}

/// What is wrong with a key, if anything. Keys are the same for every store: ASCII letters, digits,
/// `.`, `_`, `-` and `/`, at most 512 bytes, no part empty or beginning with a dot.
pub(super) fn check_key(key: &str) -> Option<&'static str> {
    if key.is_empty() || key.len() > 512 {
        return Some("has no or more than 512 bytes");
    }
    if !allowed(key) {
        return Some("has characters other than A-Z a-z 0-9 . _ - /");
    }
    if key
        .split('/')
        .any(|part| part.is_empty() || part.starts_with('.'))
    {
        return Some("has a part that is empty or begins with a dot");
    }
    None
}

/// The same for the beginning of a key.
pub(super) fn check_prefix(prefix: &str) -> Option<&'static str> {
    if !allowed(prefix) || prefix.len() > 512 {
        return Some("is no beginning of a key");
    }
    if prefix.starts_with(['/', '.']) || prefix.contains("//") || prefix.contains("/.") {
        return Some("has a part that is empty or begins with a dot");
    }
    None
}

fn allowed(key: &str) -> bool {
    key.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_stores() {
        let s3 = |bucket: &str, prefix: &str| StoreUrl::S3 {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
        };
        for (url, store) in [
            ("memory://", StoreUrl::Memory),
            ("file:///var/lib/x", StoreUrl::Folder("/var/lib/x".into())),
            ("file://./data", StoreUrl::Folder("./data".into())),
            ("s3://logs", s3("logs", "")),
            ("s3://logs/", s3("logs", "")),
            ("s3://logs/a/b/", s3("logs", "a/b")),
        ] {
            assert_eq!(StoreUrl::parse(url).unwrap(), store, "{url}");
        }
        for url in [
            "",
            "/data",
            "s3://",
            "s3:///x",
            "s3://b/../c",
            "file://",
            "ftp://x",
            "gs://b",
        ] {
            let error = StoreUrl::parse(url).unwrap_err();
            assert!(error.0.contains("s3://bucket/prefix"), "{error}");
        }
    }

    #[test]
    fn keys_that_could_leave_the_folder_are_refused() {
        for key in [
            "",
            "/a",
            "a/",
            "a//b",
            "..",
            "a/../b",
            ".staging/x",
            "ä",
            "a b",
            "a\\b",
            "a\0",
        ] {
            assert!(check_key(key).is_some(), "{key:?}");
        }
        for key in ["a", "a/b-c_d.e", "0f/topic/1"] {
            assert_eq!(check_key(key), None, "{key:?}");
        }
    }
}
