//! The AppZoo: retrieval.
