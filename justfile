# The steps of CI, one by one. `just` without a name lists them.

default:
    @just --list

# Format all code
fmt:
    scripts/format.sh

# Lints; formatting is checked, not changed
lint:
    scripts/format.sh --check
    cargo clippy --release --workspace --all-targets -- -D warnings

# API documentation; broken links are errors
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --release --workspace --no-deps

# All tests; those on real data need RUNNER_DATA_PATH
test *arguments:
    cargo test --release --workspace {{ arguments }}

# Licences, sources and bans of dependencies (cargo install --locked cargo-deny)
deny:
    cargo deny check licenses bans sources

# The types of the pages' script, and the chart library that it stands on
pages:
    scripts/page-assets.sh --check

# Benchmarks; peers are timed by the scripts in benches/peers
bench *arguments:
    cargo bench --workspace {{ arguments }}

# The built-in pipeline in a store of its own
quickstart:
    cargo run --release -- run pipelines/quickstart.yaml --store "$(mktemp -d)"

# The program with the commit that it was built from, which records of runs then name
build:
    RUNNER_COMMIT="$(git describe --always --dirty --abbrev=40 --match '' 2>/dev/null || true)" cargo build --release

# Everything that CI does
ci:
    .ci/run
