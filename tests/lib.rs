//! Tests that need several crates at once lie in `tests/`, reference data in `fixtures/`.
