//! Tests of the program as it is.
