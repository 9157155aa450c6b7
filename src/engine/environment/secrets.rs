//! What must not be kept: values of variables whose names say so, and credentials inside addresses.

use super::variables::is_setting;

/// What stands where something was left out.
const LEFT_OUT: &str = "...";

/// Parts of a name that say that its value is a secret, wherever they stand.
const ANYWHERE: [&str; 10] = [
    "SECRET",
    "TOKEN",
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "CREDENTIAL",
    "APIKEY",
    "ACCESSKEY",
    "ACCOUNTKEY",
    "PRIVATEKEY",
];

/// Words of a name that say so only as whole words: `MONKEY` is no key.
const WORDS: [&str; 9] = [
    "KEY",
    "KEYS",
    "PASS",
    "PWD",
    "AUTH",
    "COOKIE",
    "SIG",
    "SIGNATURE",
    "PRIVATE",
];

/// Whether a name says that its value is a secret.
pub(super) fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let mut words = name.split(|letter: char| !letter.is_ascii_alphanumeric());
    ANYWHERE.iter().any(|part| name.contains(part)) || words.any(|word| WORDS.contains(&word))
}

/// What is written down of a variable that a result depends on: a digest, which tells whether it is the same one. A name
/// proves nothing, so a value is only shown where the variable is known as a setting of the machine, such as
/// `CUDA_VISIBLE_DEVICES`, and nothing about it looks like a secret.
pub fn recordable(name: &str, value: String, digest: impl FnOnce(&str) -> String) -> String {
    let looks_secret =
        is_secret_name(name) || is_secret_value(&value) || without_credentials(&value) != value;
    if is_setting(name) && !looks_secret {
        value
    } else {
        digest(&value)
    }
}

/// Whether a value is a secret whatever its name.
pub(super) fn is_secret_value(value: &str) -> bool {
    value.contains("-----BEGIN ") && value.contains("PRIVATE KEY")
}

/// The text with user names, passwords and signatures taken out of the addresses in it.
pub fn without_credentials(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(position) = rest.find("://") {
        let (before, after) = rest.split_at(position + "://".len());
        clean.push_str(before);
        let ends = |letter: char| letter.is_whitespace() || "\"'<>,".contains(letter);
        let end = after.find(ends).unwrap_or(after.len());
        clean.push_str(&address(&after[..end]));
        rest = &after[end..];
    }
    clean + rest
}

/// What follows `scheme://`.
fn address(text: &str) -> String {
    let end = text.find(['/', '?', '#']).unwrap_or(text.len());
    let (authority, path) = text.split_at(end);
    // A password may hold an `@` that should have been encoded: the last one counts.
    let host = match authority.rsplit_once('@') {
        Some((_, host)) => format!("{LEFT_OUT}@{host}"),
        None => authority.to_owned(),
    };
    let Some((path, query)) = path.split_once('?') else {
        return host + path;
    };
    let pair = |pair: &str| match pair.split_once('=') {
        Some((name, _)) if is_secret_name(name) => format!("{name}={LEFT_OUT}"),
        _ => pair.to_owned(),
    };
    let query: Vec<String> = query.split('&').map(pair).collect();
    format!("{host}{path}?{}", query.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_mean_secrets() {
        for name in [
            "AWS_SECRET_ACCESS_KEY",
            "RUNNER_TOKEN",
            "DB_PASSWORD",
            "RUNNER_SIGN_KEY",
            "my-api-key",
            "OPENAI_APIKEY",
            "GITHUB_TOKENS",
            "CUDA_AUTH",
            "Session-Cookie",
            "X-Amz-Signature",
        ] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in [
            "RUNNER_STORE",
            "OMP_NUM_THREADS",
            "MONKEY",
            "LANG",
            "SLURM_JOB_ID",
            "COMPASS",
            "TZ",
        ] {
            assert!(!is_secret_name(name), "{name}");
        }
        assert!(
            is_secret_value("-----BEGIN PRIVATE KEY-----\nabc") && !is_secret_value("/keys/a.pem")
        );
    }

    #[test]
    fn only_settings_of_the_machine_are_shown() {
        let digest = |_: &str| "digest".to_owned();
        for (name, value, shown) in [
            ("CUDA_VISIBLE_DEVICES", "0,1", "0,1"),
            ("OMP_NUM_THREADS", "4", "4"),
            ("TZ", "UTC", "UTC"),
            ("OMP_TOKEN", "4711", "digest"),
            ("LANG", "https://ann:s3cret@host.org", "digest"),
            ("MODE", "4711", "digest"),
            ("RUNNER_MODE", "4711", "digest"),
        ] {
            assert_eq!(recordable(name, value.to_owned(), digest), shown, "{name}");
        }
    }

    #[test]
    fn addresses_lose_what_gives_access() {
        for (text, clean) in [
            ("https://ann:s3cret@host.org/a", "https://...@host.org/a"),
            (
                "https://ghp_abc@host.org/a.git",
                "https://...@host.org/a.git",
            ),
            (
                "s3://k:p@ss@host/b?x=1&X-Amz-Signature=abc&sig=d",
                "s3://...@host/b?x=1&X-Amz-Signature=...&sig=...",
            ),
            (
                "--remote=http://a:b@c d http://e:f@g",
                "--remote=http://...@c d http://...@g",
            ),
            ("git@host.org:a/b.git", "git@host.org:a/b.git"),
            (
                "https://host.org/@user?page=2",
                "https://host.org/@user?page=2",
            ),
            ("no address: a@b", "no address: a@b"),
        ] {
            assert_eq!(without_credentials(text), clean);
        }
    }
}
