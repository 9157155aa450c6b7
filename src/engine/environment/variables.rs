//! The environment variables that can matter to a result or to how it came about. The list is fixed, so that nothing
//! else of a user's environment is ever recorded; `docs/provenance.md` has it too.

use std::ffi::OsString;

use serde_json::{Map, Value};

use super::secrets::{is_secret_name, is_secret_value, without_credentials};

/// Variables that begin so.
const PREFIXES: [&str; 11] = [
    "RUNNER_",
    "CUDA_",
    "CUBLAS_",
    "CUDNN_",
    "NCCL_",
    "NVIDIA_",
    "OMP_",
    "KMP_",
    "MKL_",
    "OPENBLAS_",
    "RAYON_",
];

/// Variables of these names.
const NAMES: [&str; 26] = [
    "CONDA_DEFAULT_ENV",
    "HOME",
    "LANG",
    "LANGUAGE",
    "LC_ALL",
    "LC_NUMERIC",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "MALLOC_ARENA_MAX",
    "PATH",
    "SLURM_ARRAY_JOB_ID",
    "SLURM_ARRAY_TASK_ID",
    "SLURM_CLUSTER_NAME",
    "SLURM_CPUS_PER_TASK",
    "SLURM_GPUS",
    "SLURM_JOB_ID",
    "SLURM_JOB_NAME",
    "SLURM_JOB_NODELIST",
    "SLURM_JOB_PARTITION",
    "SLURM_MEM_PER_CPU",
    "SLURM_MEM_PER_NODE",
    "SLURM_RESTART_COUNT",
    "SOURCE_DATE_EPOCH",
    "TMPDIR",
    "TZ",
    "VIRTUAL_ENV",
];

/// A value that is longer is cut: it is no setting.
const LONGEST: usize = 1000;

/// Name to value, sorted; `true` for one that is set and whose value looks like a secret.
pub(super) fn that_matter(
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> Map<String, Value> {
    let mut found = Map::new();
    for (name, value) in variables {
        if let Ok(name) = name.into_string()
            && matters(&name)
        {
            let kept = kept(&name, &value.to_string_lossy());
            found.insert(name, kept);
        }
    }
    found.sort_keys();
    found
}

/// Whether a variable is known as a setting of the machine and its libraries. What users call `RUNNER_…` is theirs.
pub fn is_setting(name: &str) -> bool {
    matters(name) && !name.starts_with("RUNNER_")
}

fn matters(name: &str) -> bool {
    PREFIXES.iter().any(|prefix| name.starts_with(prefix)) || NAMES.contains(&name)
}

fn kept(name: &str, value: &str) -> Value {
    if is_secret_name(name) || is_secret_value(value) {
        return Value::Bool(true);
    }
    // Cut first, an address could lose the sign by which its password is known.
    let kept: String = without_credentials(value).chars().take(LONGEST).collect();
    kept.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_is_listed_is_kept_and_no_secret() {
        let variables = [
            ("TZ", "UTC"),
            ("HOME", "/anywhere"),
            ("OTHER", "x"),
            ("RUNNER_STORE", "s3://me:secret@host/store"),
            ("RUNNER_REMOTE_TOKEN", "abc"),
            ("CUDA_VISIBLE_DEVICES", "0,1"),
            ("AWS_ACCESS_KEY_ID", "abc"),
        ];
        let found = that_matter(
            variables
                .into_iter()
                .map(|(name, value)| (name.into(), value.into())),
        );
        let expected = json!({
            "CUDA_VISIBLE_DEVICES": "0,1", "HOME": "/anywhere", "RUNNER_REMOTE_TOKEN": true, "RUNNER_STORE": "s3://...@host/store", "TZ": "UTC",
        });
        assert_eq!(Value::from(found), expected);
    }
}
