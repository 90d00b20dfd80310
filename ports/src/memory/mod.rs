//! Backends in memory, stricter than production.
