//! The `jobwarden` program.

fn main() {}
