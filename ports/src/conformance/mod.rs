//! One suite of named cases that every backend runs.
